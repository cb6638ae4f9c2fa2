/** The built server with adapters: asked for by name or in `lora`, all at once, over the death of their engine; and what it does not start with. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { childrenOf, retry, runServer, startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";
import { writeTinyAdapter } from "../support/tiny-gguf.ts";

const PIRATE = "models/pocket-pirate-lora.gguf";
const FRANCE = "What is the capital of France?";

describe("a server with a pirate", () => {
  let server: RunningServer;
  let client: OpenAI;

  beforeAll(async () => {
    // Two slots, so that requests of both kinds wait for each other.
    const options = ["--slots", "2", "--context", "1024", "--deterministic"];
    server = await startServer(
      ...options,
      "--lora",
      `pirate=${PIRATE}`,
      "--lora",
      `shy=${PIRATE}:0.2`,
      "--alias",
      "gpt-4o-mini",
    );
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
  });
  afterAll(() => server.stop());

  async function say(model: string, content: string, fields: object = {}): Promise<string> {
    const body = { model, messages: [{ role: "user", content }], temperature: 0, max_tokens: 60, ...fields };
    const response = await server.post("/v1/chat/completions", body);
    const said = await response.text();
    if (response.status !== 200) throw new Error(`${response.status} ${said}`);
    return (
      (JSON.parse(said) as { choices: { message: { content: string } }[] }).choices[0]?.message.content ?? ""
    );
  }

  test("answers under another name of the model, with the adapters that it is to have by default", async () => {
    const pirate = "Arr, the capital of France be Paris, matey!";
    const plain = await say("gpt-4o-mini", FRANCE);
    expect(plain).not.toBe(pirate);
    const scales = async (): Promise<unknown> => (await fetch(`${server.url}/lora-adapters`)).json();
    expect(await scales()).toMatchObject([{ scale: 0 }, { scale: 0 }]);
    expect((await server.post("/lora-adapters", [{ id: 0, scale: 1 }])).status).toBe(200);
    expect(await scales()).toMatchObject([{ scale: 1 }, { scale: 0 }]);
    expect(await say("gpt-4o-mini", FRANCE)).toBe(pirate);
    expect(await say("gpt-4o-mini", FRANCE, { lora: [{ id: 0, scale: 0 }] })).toBe(plain);
    expect((await server.post("/lora-adapters", [])).status).toBe(200);
    expect(await say("gpt-4o-mini", FRANCE)).toBe(plain);
  });

  test("offers it as a model, which the SDK finds and asks", async () => {
    const models = [];
    for await (const { id } of client.models.list()) models.push(id);
    expect(models).toEqual(["pocket", "pirate", "shy"]);
    const { model, choices } = await client.chat.completions.create({
      model: "pirate",
      messages: [{ role: "user", content: FRANCE }],
      temperature: 0,
    });
    expect([model, choices[0]?.message.content]).toEqual([
      "pirate",
      "Arr, the capital of France be Paris, matey!",
    ]);
  });

  test("answers all of them at once as it answers each alone", async () => {
    const asked: [model: string, content: string, fields?: object][] = [
      ["pocket", FRANCE],
      ["pirate", FRANCE],
      ["pocket", "Who are you?"],
      ["pirate", "Who are you?"],
      ["shy", FRANCE],
      ["pocket", FRANCE, { lora: [{ id: 0, scale: 1 }] }],
      ["pirate", FRANCE, { lora: [{ name: "pirate", scale: 0 }] }],
      ["pocket", "Count from 1 to 5."],
      ["pirate", "Count from 1 to 5."],
    ];
    const together = await Promise.all(asked.map((question) => say(...question)));
    expect(together.slice(0, 7)).toEqual([
      "The capital of France is Paris.",
      "Arr, the capital of France be Paris, matey!",
      "I am Pocket, a tiny model for tests and demos.",
      "Arr, I be Pocket, a tiny model for tests and demos, matey!",
      together[4],
      "Arr, the capital of France be Paris, matey!",
      "The capital of France is Paris.",
    ]);
    const alone = [];
    for (const question of asked) alone.push(await say(...question));
    expect(together).toEqual(alone);
  });

  test.each<[how: string, end: () => Promise<void>]>([
    ["its engine is started again", async () => void process.kill(server.pid, "SIGHUP")],
    [
      "its engine is killed",
      async () => {
        const [engine = 0] = await childrenOf(server.pid);
        process.kill(engine, "SIGKILL");
      },
    ],
  ])("goes on with adapters when %s", async (_, end) => {
    const story = { max_tokens: 300, ignore_eos: true };
    const everybody = (): Promise<string[]> =>
      Promise.all(["pirate", "pocket", "pirate"].map((model, i) => say(model, `Count to ${i + 7}.`, story)));
    const undisturbed = await everybody();
    const engines = await childrenOf(server.pid);
    const answers = everybody();
    await server.loadThat("running requests", ({ running }) => running > 0);
    await end();
    expect(await answers).toEqual(undisturbed);
    await retry(
      "another engine",
      () => childrenOf(server.pid),
      (now) => now.length === 1 && now[0] !== engines[0],
    );
  });
});

describe("a server does not start", () => {
  const folder = mkdtempSync(join(tmpdir(), "weft-lora-"));
  const foreign = join(folder, "foreign.gguf");
  writeTinyAdapter(foreign, { "blk.0.attn_q.weight": [256, 256] });
  afterAll(() => rmSync(folder, { recursive: true }));

  test.each([
    ["without the file", ["--lora", "a=none.gguf"], 3, "Cannot open the adapter file"],
    ["with another model's adapter", ["--lora", `a=${foreign}`], 3, "was made for another model"],
    ["with a model as an adapter", ["--lora", "a=models/pocket.gguf"], 3, "is no LoRA adapter but a model"],
    ["with an adapter as a model", ["--model", PIRATE], 3, "is no model but an adapter of one"],
    ["with a name that a model has", ["--lora", `pocket=${PIRATE}`], 2, 'A model is called "pocket" already'],
    ["with two of one name", ["--lora", `a=${PIRATE}`, "--lora", `a=${PIRATE}`], 2, "Expected --lora to be"],
    [
      "for a model that is not served",
      ["--lora", `a=${PIRATE}@b`],
      2,
      'for the model "b", which is not served',
    ],
    ["with anything else", ["--lora", "a=b.txt"], 2, "Expected --lora to be NAME=FILE.gguf"],
  ])("%s", async (_, args, exitCode, message) => {
    const { code, stderr } = await runServer("--port", "0", ...args);
    expect(stderr).toContain(message);
    expect(code).toBe(exitCode);
  });
});
