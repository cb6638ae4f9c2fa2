/** Faults inside real engine processes: what becomes of the request that has them, and of those beside it. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { forkEngine } from "../../../engine/process/fork.ts";
import type { EnginePort, Fault, GenerationParams } from "../../../engine/protocol.ts";
import type { ResolvedModel } from "../../../models/resolve.ts";
import { createLog } from "../../../src/log.ts";
import { ModelHost } from "../../../src/model-host.ts";
import type { EngineTrouble } from "../../../src/model-host.ts";
import { GREEDY, LOAD_OPTIONS } from "../../support/engine.ts";

const MODEL: ResolvedModel = {
  id: "pocket",
  path: "models/pocket.gguf",
  aliases: [],
  createdSeconds: 0,
  source: "file",
};
const ENTRY = new URL("../../../dist/engine/process/main.js", import.meta.url);
/** The seed by which a fault knows its request. */
const MARKED = 4242;

const hosts: ModelHost[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const host of hosts.splice(0)) await host.stop();
});

/** A host of engines of which the `n`-th, from 0, has the faults that `faultsOf(n)` says. */
async function hostWith(faultsOf: (engine: number) => readonly Fault[]) {
  vi.stubEnv("WEFT_FAULTS", "1");
  const engines: EnginePort[] = [];
  const troubles: EngineTrouble[] = [];
  const host = new ModelHost([MODEL], {
    startEngine() {
      const port = forkEngine({ entry: ENTRY });
      for (const fault of faultsOf(engines.length)) port.send({ type: "fault", fault });
      engines.push(port);
      return port;
    },
    loadOptions: ({ path }) => ({
      ...LOAD_OPTIONS,
      modelPath: path,
      contextTokens: 512,
      deterministic: true,
    }),
    checkFiles: () => undefined,
    createTemplate: () => undefined,
    onStep: () => undefined,
    onTrouble: (trouble) => troubles.push(trouble),
    stuckAfterMs: 1000,
    log: createLog({ level: "silent", format: "json" }),
    nowMs: () => performance.now(),
    wait: () => Promise.resolve(),
  });
  hosts.push(host);
  await host.start();
  const ask = async (id: string, params: Partial<GenerationParams>): Promise<number[]> => {
    const engine = host.served[0]?.loaded?.engine;
    if (engine === undefined) throw new Error("No engine.");
    const prompt = [{ text: `Once upon a time ${id} said: 1, 2, 3,`, special: false }];
    const request = { id, prompt, addBos: true, owner: "tester", promptLogprobs: undefined };
    const stream = await engine.submit({
      ...request,
      params: { ...GREEDY, maxTokens: 40, ignoreEos: true, ...params },
    });
    const tokens: number[] = [];
    for await (const output of stream) tokens.push(...output.tokens);
    return tokens;
  };
  const seeded = (seed: number): Partial<GenerationParams> => ({
    sampling: { ...GREEDY.sampling, temperature: 1, seed },
  });
  const others = (): Promise<number[][]> =>
    Promise.all(Array.from({ length: 15 }, (_, i) => ask(`other ${i}`, i % 2 === 0 ? {} : seeded(i))));
  return { host, troubles, ask, others, marked: seeded(MARKED), startedCount: () => engines.length };
}

describe("a request whose seventh token ends the engine", () => {
  test("fails alone; fifteen others get what they get without it", async () => {
    const quiet = await hostWith(() => []);
    const undisturbed = await quiet.others();
    const { ask, others, marked, troubles } = await hostWith(() => [{ does: "die", seed: MARKED, draw: 7 }]);
    const [[poison], answers] = await Promise.all([Promise.allSettled([ask("poison", marked)]), others()]);
    expect(poison).toMatchObject({ status: "rejected", reason: { code: "engine_crashed" } });
    expect(answers).toEqual(undisturbed);
    expect(troubles.filter(({ kind }) => kind === "conviction")).toHaveLength(1);
    // Two with the others, two alone.
    expect(troubles.filter(({ kind }) => kind === "death")).toHaveLength(4);
  });

  test("and one that a draw only fails for fails without any of that", async () => {
    const { ask, marked, troubles } = await hostWith(() => [{ does: "fail", seed: MARKED, draw: 7 }]);
    const [failed, other] = await Promise.allSettled([ask("marked", marked), ask("other", {})]);
    expect(failed).toMatchObject({ status: "rejected", reason: { code: "decode_failed" } });
    expect(other.status).toBe("fulfilled");
    expect(troubles).toEqual([]);
  });
});

test("an engine that hangs once is found out, and its request goes on in the next", async () => {
  const { ask, marked, troubles, startedCount } = await hostWith((engine) =>
    engine === 0 ? [{ does: "hang", seed: MARKED, draw: 7 }] : [],
  );
  const tokens = await ask("marked", marked);
  expect(tokens).toHaveLength(40);
  expect(await ask("marked", marked)).toEqual(tokens);
  expect(troubles.map(({ kind }) => kind)).toEqual(["stuck", "death", "replay"]);
  expect(startedCount()).toBe(2);
});

test("row 90: an engine whose heap is full is started again, and its requests go on", async () => {
  const quiet = await hostWith(() => []);
  const undisturbed = await quiet.others();
  vi.stubEnv("NODE_OPTIONS", "--max-old-space-size=100");
  // Calls of the warm-up count, too.
  const { others, troubles, startedCount } = await hostWith((engine) =>
    engine === 0 ? [{ does: "hoard", call: 200 }] : [],
  );
  vi.stubEnv("NODE_OPTIONS", undefined);
  expect(await others()).toEqual(undisturbed);
  const told = troubles.map((trouble) => ("death" in trouble ? trouble.death : trouble.kind));
  // Collecting garbage in a full heap can take so long that the engine is ended for its silence first.
  expect(told.filter((trouble) => trouble !== "stuck")).toEqual(["crash", "replay"]);
  expect(startedCount()).toBe(2);
});

test("a planned restart in the middle of requests fails none of them", async () => {
  const { host, others, troubles } = await hostWith(() => [{ does: "slow", ms: 5 }]);
  const undisturbed = await others();
  const answers = others();
  const restart = async (count: number): Promise<void> => {
    host.restart();
    await expect.poll(() => host.served[0]?.restarts, { timeout: 30_000 }).toBe(count);
    await expect.poll(() => host.served[0]?.state, { timeout: 30_000 }).toBe("ready");
  };
  for (let count = 1; count <= 3; count++) await restart(count);
  expect(await answers).toEqual(undisturbed);
  expect(troubles.filter(({ kind }) => kind === "death")).toHaveLength(3);
});

test("an engine that was not started for tests ignores them", async () => {
  const { host } = await hostWith(() => []);
  vi.stubEnv("WEFT_FAULTS", undefined);
  const port = forkEngine({ entry: ENTRY });
  port.send({ type: "fault", fault: { does: "die", call: 1 } });
  const loaded = new Promise<string>((resolve) =>
    port.onEvent(({ type }) => type !== "load_progress" && resolve(type)),
  );
  port.send({ type: "load", options: { ...LOAD_OPTIONS, modelPath: MODEL.path, contextTokens: 256 } });
  expect(await loaded).toBe("loaded");
  port.kill();
  await port.exited;
  expect(host.served[0]?.state).toBe("ready");
});
