/** Two models on one device, real inference: each says what it says alone, both get on, also when one's engine is killed in its turn. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { childrenOf, retry, startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";

let server: RunningServer;
beforeAll(async () => {
  // Pocket's weights are F16, for which a stream that runs alone is computed in another kernel than several.
  const models = ["--model", "one=pocket", "--model", "two=pocket"];
  server = await startServer(...models, "--share-device", "on", "--deterministic", "--model-weight", "two=3");
});
afterAll(() => server.stop());

async function complete(model: string, seed: number): Promise<string> {
  const prompt = `${"1, 2, 3, ".repeat(40 * (1 + (seed % 3)))}count on from ${seed}:`;
  const body = { model, prompt, max_tokens: 200, ignore_eos: true, seed, temperature: 1 };
  const response = await server.post("/v1/completions", body);
  const { choices, error } = (await response.json()) as {
    choices?: { text: string }[];
    error?: { message: string };
  };
  if (error !== undefined) throw new Error(error.message);
  return choices?.[0]?.text ?? "";
}

/** Turns that each model has waited for. */
async function turns(): Promise<readonly number[]> {
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  return ["one", "two"].map((model) =>
    Number(
      new RegExp(`^weft_device_wait_seconds_count\\{model="${model}"\\} (\\d+)`, "m").exec(metrics)?.[1],
    ),
  );
}

const SEEDS = [1, 2, 3, 4, 5, 6];
const alone: Record<string, readonly string[]> = {};

test("both at once, each says what it says alone", async () => {
  for (const model of ["one", "two"]) {
    const texts = [];
    for (const seed of SEEDS) texts.push(await complete(model, seed));
    alone[model] = texts;
  }
  expect(alone["one"]).toEqual(alone["two"]);
  const [oneBefore = 0, twoBefore = 0] = await turns();
  const [one, two] = await Promise.all(
    ["one", "two"].map((model) => Promise.all(SEEDS.map((seed) => complete(model, seed)))),
  );
  expect([one, two]).toEqual([alone["one"], alone["two"]]);
  const [oneAfter = 0, twoAfter = 0] = await turns();
  // By turns, and not one behind the other.
  expect(oneAfter - oneBefore).toBeGreaterThan(SEEDS.length);
  expect(twoAfter - twoBefore).toBeGreaterThan(SEEDS.length);
});

test("an engine that is killed while both are busy holds the other one up no longer, and goes on itself", async () => {
  const engines = await childrenOf(server.pid);
  expect(engines).toHaveLength(2);
  const asked = ["one", "two"].map((model) => Promise.all(SEEDS.map((seed) => complete(model, seed))));
  const [before = 0] = await turns();
  await retry("several turns of each", turns, ([now = 0]) => now > before + 3);
  for (const pid of engines) {
    process.kill(pid, "SIGKILL");
    await retry(
      "another engine",
      () => childrenOf(server.pid),
      (now) => now.length === 2 && !now.includes(pid),
    );
  }
  expect(await Promise.all(asked)).toEqual([alone["one"], alone["two"]]);
});
