import { describe, expect, it } from "vitest";
import { EngineError } from "../../../engine/errors.ts";
import { hostEngine } from "../../../engine/process/in-process.ts";
import type { EngineFactory } from "../../../engine/process/serve.ts";
import type { EngineEvent, LoadOptions } from "../../../engine/protocol.ts";
import type { ResolvedModel } from "../../../models/resolve.ts";
import { createLog } from "../../../src/log.ts";
import { ModelHost } from "../../../src/model-host.ts";
import { createProbeEngine } from "../../engine/process/probe-engine.ts";

const LOAD: LoadOptions = {
  modelPath: "none",
  contextTokens: undefined,
  slots: 1,
  batchTokens: undefined,
  threads: undefined,
  gpu: "off",
  gpuLayers: undefined,
  flashAttention: "auto",
  kvCacheType: "f16",
  prefillChunk: undefined,
  itlTargetMs: undefined,
  maxQueued: 1,
  deterministic: false,
};

function model(id: string, aliases: readonly string[] = []): ResolvedModel {
  return { id, path: `${id}.gguf`, aliases, createdSeconds: 7, source: "file" };
}

/** Loads never succeed. */
const createBrokenEngine: EngineFactory = (emit: (event: EngineEvent) => void) => ({
  stopped: new Promise<void>(() => undefined),
  receive(command) {
    if (command.type === "load") emit({ type: "load_failed", code: "out_of_memory", message: "No room." });
  },
});

function hostOf(models: readonly ResolvedModel[], engines: EngineFactory[]) {
  const waits: number[] = [];
  let nowMs = 0;
  let started = 0;
  const host = new ModelHost(models, {
    startEngine: () => hostEngine(engines[Math.min(started++, engines.length - 1)] ?? createProbeEngine),
    loadOptions: (which) => ({ ...LOAD, modelPath: which.path }),
    createTemplate: () => undefined,
    onStep: () => undefined,
    log: createLog({ level: "silent", format: "json" }),
    nowMs: () => nowMs,
    async wait(ms) {
      waits.push(ms);
      nowMs += ms;
    },
  });
  return { host, waits, pass: (ms: number) => (nowMs += ms), startedCount: () => started };
}

/** Makes the engine of the first model die, and waits until it is known. */
async function die(host: ModelHost): Promise<void> {
  const engine = host.served[0]?.loaded?.engine;
  await expect(engine?.tokenize([{ text: "throw", special: false }], false)).rejects.toMatchObject({
    code: "engine_exited",
  });
  await engine?.exited;
}

describe("a model host", () => {
  it("offers a model as loading, then as ready with its tables, by id and by alias", async () => {
    const { host } = hostOf([model("one", ["uno", "two"]), model("two")], [createProbeEngine]);
    expect(host.find("one")).toMatchObject({ state: "loading", loaded: undefined, createdSeconds: 7 });
    await host.start();
    expect(host.find("uno")).toMatchObject({ id: "one", state: "ready", detail: undefined });
    expect(host.find("uno")?.loaded?.tokens.size).toBe(50_000);
    // An id is stronger than another model's alias.
    expect(host.find("two")?.id).toBe("two");
    expect(host.find("three")).toBeUndefined();
    await host.stop();
  });

  it("says why a model does not load, and gives up on it", async () => {
    const { host } = hostOf([model("one")], [createBrokenEngine]);
    await expect(host.start()).rejects.toEqual(new EngineError("out_of_memory", "No room."));
    expect(host.find("one")).toMatchObject({ state: "failed", detail: "No room.", loaded: undefined });
  });

  it("starts an engine again when it dies", async () => {
    const { host, waits } = hostOf([model("one")], [createProbeEngine]);
    await host.start();
    const before = host.served[0]?.loaded?.engine;
    await die(host);
    expect(host.find("one")).toMatchObject({ state: "restarting", loaded: undefined });
    expect(host.find("one")?.detail).toContain("engine broke");
    await expect.poll(() => host.find("one")?.state).toBe("ready");
    expect(host.served[0]?.loaded?.engine).not.toBe(before);
    expect(host.served[0]?.restarts).toBe(1);
    expect(waits).toEqual([250]);
    await host.stop();
  });

  it("waits longer after each death and gives up after the sixth within a minute", async () => {
    const { host, waits, startedCount } = hostOf([model("one")], [createProbeEngine, createBrokenEngine]);
    await host.start();
    await die(host);
    await expect.poll(() => host.find("one")?.state).toBe("failed");
    expect(waits).toEqual([250, 500, 1000, 2000, 4000]);
    expect(startedCount()).toBe(6);
    expect(host.find("one")?.detail).toBe("The engine died 6 times within a minute, last by: No room.");
  });

  it("forgets deaths that are older than a minute", async () => {
    const { host, waits, pass } = hostOf([model("one")], [createProbeEngine]);
    await host.start();
    for (let death = 0; death < 8; death++) {
      await die(host);
      await expect.poll(() => host.find("one")?.state).toBe("ready");
      pass(60_000);
    }
    expect(waits).toEqual(Array.from({ length: 8 }, () => 250));
    await host.stop();
  });

  it("does not start an engine again while it shuts down", async () => {
    const { host, startedCount } = hostOf([model("one")], [createProbeEngine]);
    await host.start();
    const exited = host.served[0]?.loaded?.engine.exited;
    await host.stop();
    expect(await exited).toMatchObject({ unexpected: false });
    expect(host.find("one")?.loaded).toBeUndefined();
    expect(startedCount()).toBe(1);
  });
});
