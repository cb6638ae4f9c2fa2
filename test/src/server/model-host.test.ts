import { describe, expect, it } from "vitest";
import { createEngine } from "../../../engine/engine.ts";
import { EngineError } from "../../../engine/errors.ts";
import { FakeBackend, fakeOutput } from "../../../engine/fake/backend.ts";
import { hostEngine } from "../../../engine/process/in-process.ts";
import type { EngineFactory } from "../../../engine/process/serve.ts";
import type { EngineEvent, LoadOptions } from "../../../engine/protocol.ts";
import type { ResolvedModel } from "../../../models/resolve.ts";
import { createLog } from "../../../src/log.ts";
import { ModelHost } from "../../../src/model-host.ts";
import type { EngineTrouble } from "../../../src/model-host.ts";
import { createProbeEngine } from "../../engine/process/probe-engine.ts";
import { GREEDY } from "../../support/engine.ts";
import { CRASH, KILL, MortalEngine } from "../../support/mortal-engines.ts";

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
  speculate: true,
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

function hostOf(
  models: readonly ResolvedModel[],
  engines: EngineFactory[],
  onStep: () => void = () => undefined,
) {
  const waits: number[] = [];
  const troubles: EngineTrouble[] = [];
  let nowMs = 0;
  const ports: MortalEngine[] = [];
  const broken = new Set<string>();
  const loading: unknown[] = [];
  const host = new ModelHost(models, {
    startEngine() {
      const factory = engines[Math.min(ports.length, engines.length - 1)] ?? createProbeEngine;
      const port = new MortalEngine(hostEngine(factory));
      ports.push(port);
      return port;
    },
    loadOptions: (which) => ({ ...LOAD, modelPath: which.path }),
    checkFiles: ({ path }) => {
      if (broken.has(path)) throw new Error(`${path} is broken.`);
    },
    createTemplate: () => undefined,
    onLoading: (...told) => loading.push(told),
    onStep,
    onTrouble: (trouble) => troubles.push(trouble),
    stuckAfterMs: 30_000,
    log: createLog({ level: "silent", format: "json" }),
    nowMs: () => nowMs,
    async wait(ms) {
      waits.push(ms);
      nowMs += ms;
    },
  });
  return {
    host,
    waits,
    troubles,
    loading,
    pass: (ms: number) => (nowMs += ms),
    startedCount: () => ports.length,
    ports,
    broken,
  };
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

  it("tells of each model that it begins to load, and how far that is", async () => {
    const engine: EngineFactory = (emit) =>
      createEngine(async (_, onProgress) => {
        onProgress(0.5);
        onProgress(1);
        return new FakeBackend();
      }, emit);
    const { host, loading } = hostOf([model("one"), model("two")], [engine]);
    await host.start();
    expect(loading).toEqual([
      ["one", 0],
      ["one", 0.5],
      ["one", 1],
      ["two", 0],
      ["two", 0.5],
      ["two", 1],
    ]);
    await host.stop();
  });

  it("offers its adapters as models that come and go with it, and are others when their files are", async () => {
    const adapter = { name: "pirate", path: "/p.gguf", fileName: "p.gguf", scale: 0.5, createdSeconds: 8 };
    const enginesOf = (fingerprint: string): EngineFactory => {
      return (emit) => createEngine(async () => new FakeBackend({ adapters: [{ fingerprint }] }), emit);
    };
    const engines = [enginesOf("first"), enginesOf("first"), enginesOf("second")];
    const { host, ports } = hostOf(
      [{ ...model("one", ["uno"]), adapters: [adapter] }, model("two")],
      engines,
    );
    expect(host.find("pirate")).toMatchObject({ state: "loading", loaded: undefined, parent: "one" });
    await host.start();
    const seen = [];
    for (const death of [1, 2]) {
      const { state, loaded, createdSeconds } = host.find("pirate") ?? {};
      expect([state, createdSeconds]).toEqual(["ready", 8]);
      expect(loaded).toMatchObject({ id: "pirate", applied: [{ adapter: 0, scale: 0.5 }] });
      expect(loaded?.engine).toBe(host.find("one")?.loaded?.engine);
      expect(host.find("pirate")?.loaded).toBe(loaded);
      seen.push(loaded);
      ports[death === 1 ? 0 : 2]?.die(CRASH);
      await expect.poll(() => host.served[0]?.restarts).toBe(death);
      await expect.poll(() => host.find("pirate")?.state).toBe("ready");
    }
    seen.push(host.find("pirate")?.loaded);
    expect(seen.map((loaded) => loaded?.facts.adapters)).toEqual([
      [{ fingerprint: "first" }],
      [{ fingerprint: "second" }],
      [{ fingerprint: "second" }],
    ]);
    expect(host.served.map(({ adapted }) => adapted.map(({ id }) => id))).toEqual([["pirate"], []]);
    await host.stop();
  });

  it("passes tokens on even when their step cannot be counted", async () => {
    const engine: EngineFactory = (emit) => createEngine(async () => new FakeBackend(), emit);
    const { host } = hostOf([model("one")], [engine], () => {
      throw new Error("a counter went down");
    });
    await host.start();
    const prompt = [5, 6, 7];
    const request = {
      id: "a",
      prompt: [{ tokens: prompt }],
      addBos: false,
      owner: "o",
      promptLogprobs: undefined,
    };
    const stream = await host
      .find("one")
      ?.loaded?.engine.submit({ ...request, params: { ...GREEDY, maxTokens: 4 } });
    const tokens: number[] = [];
    for await (const output of stream ?? []) tokens.push(...output.tokens);
    expect(tokens).toEqual(fakeOutput(prompt, 4));
    await host.stop();
  });

  it("says why a model does not load, and gives up on it", async () => {
    const { host } = hostOf([model("one")], [createBrokenEngine]);
    await expect(host.start()).rejects.toEqual(new EngineError("out_of_memory", "No room."));
    expect(host.find("one")).toMatchObject({ state: "failed", detail: "No room.", loaded: undefined });
  });

  it("starts an engine again when it dies, under the same client, while requests are taken", async () => {
    const { host, waits, troubles, ports } = hostOf([model("one")], [createProbeEngine]);
    await host.start();
    const before = host.served[0]?.loaded;
    const answer = before?.engine.tokenize([{ text: "", special: false }], false);
    ports[0]?.die(CRASH);
    await expect.poll(() => host.find("one")?.state).toBe("restarting");
    expect(host.find("one")).toMatchObject({
      loaded: before,
      detail: "The engine ended by signal SIGSEGV and is being started again.",
    });
    await expect.poll(() => host.find("one")?.state).toBe("ready");
    expect(await answer).toEqual([1, 2]);
    expect(host.find("one")?.loaded).toBe(before);
    expect(host.served[0]?.restarts).toBe(1);
    expect(waits).toEqual([]);
    expect(troubles).toEqual([{ kind: "death", model: "one", death: "crash" }]);
    await host.stop();
  });

  it("starts it again when it is asked to, which is no death", async () => {
    const { host, waits, troubles, startedCount } = hostOf([model("one")], [createProbeEngine]);
    await host.start();
    for (let restart = 1; restart <= 20; restart++) {
      host.restart();
      await expect.poll(() => host.served[0]?.restarts).toBe(restart);
      await expect.poll(() => host.find("one")?.state).toBe("ready");
    }
    expect([waits, startedCount()]).toEqual([[], 21]);
    expect(troubles.at(-1)).toEqual({ kind: "death", model: "one", death: "planned" });
    await host.stop();
  });

  it("leaves it as it is while its files are broken", async () => {
    const { host, startedCount, broken } = hostOf([model("one"), model("two")], [createProbeEngine]);
    await host.start();
    broken.add("one.gguf");
    host.restart();
    await expect.poll(() => host.served[1]?.restarts).toBe(1);
    await expect.poll(() => host.find("two")?.state).toBe("ready");
    expect([host.find("one")?.state, host.served[0]?.restarts, startedCount()]).toEqual(["ready", 0, 3]);
    broken.clear();
    host.restart();
    await expect.poll(() => host.served[0]?.restarts).toBe(1);
    await expect.poll(() => host.find("one")?.state).toBe("ready");
    await host.stop();
  });

  it("waits longer after each death in a row and gives up after the sixth; what is open fails", async () => {
    const { host, waits, startedCount, ports } = hostOf(
      [model("one")],
      [createProbeEngine, createBrokenEngine],
    );
    await host.start();
    const open = host.served[0]?.loaded?.engine.tokenize([{ text: "", special: false }], false);
    ports[0]?.die(CRASH);
    await expect(open).rejects.toMatchObject({ code: "engine_exited" });
    expect(host.find("one")).toMatchObject({ state: "failed", loaded: undefined });
    expect(waits).toEqual([250, 500, 1000, 2000]);
    expect(startedCount()).toBe(6);
    expect(host.find("one")?.detail).toBe(
      "The engine died again and again and could not be kept running, last by: No room.",
    );
  });

  it("loads a model that was given up when it is asked to, and takes requests for it again", async () => {
    const engines = [
      createProbeEngine,
      ...Array.from({ length: 6 }, () => createBrokenEngine),
      createProbeEngine,
    ];
    const { host, waits, startedCount, ports, broken } = hostOf([model("one")], engines);
    await host.start();
    const ask = (): Promise<unknown> | undefined =>
      host.served[0]?.loaded?.engine.tokenize([{ text: "", special: false }], false);
    ports[0]?.die(CRASH);
    await expect.poll(() => host.find("one")?.state).toBe("failed");
    broken.add("one.gguf");
    host.restart();
    expect([host.find("one")?.state, startedCount()]).toEqual(["failed", 6]);
    broken.clear();
    host.restart();
    expect(host.find("one")).toMatchObject({ state: "loading", loaded: undefined });
    await expect.poll(() => host.find("one")?.state).toBe("failed");
    expect(host.find("one")?.detail).toBe("No room.");
    const tries = waits.length;
    host.restart();
    host.restart();
    await expect.poll(() => host.find("one")?.state).toBe("ready");
    expect(await ask()).toEqual([1, 2]);
    expect(startedCount()).toBe(8);
    // It is one like any other: its next death is the first.
    ports.at(-1)?.die(CRASH);
    await expect.poll(() => host.find("one")?.state).toBe("restarting");
    await expect.poll(() => host.find("one")?.state).toBe("ready");
    expect(await ask()).toEqual([1, 2]);
    expect(waits.length).toBe(tries);
    await host.stop();
  });

  it("loads those that were given up one after the other", async () => {
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const createSlow: EngineFactory = (emit) => {
      const engine = createBrokenEngine(emit);
      return { ...engine, receive: (command) => void gate.then(() => engine.receive(command)) };
    };
    const engines = [
      ...Array.from({ length: 2 }, () => createProbeEngine),
      ...Array.from({ length: 10 }, () => createBrokenEngine),
      createSlow,
      createProbeEngine,
    ];
    const { host, startedCount, ports } = hostOf([model("one"), model("two")], engines);
    await host.start();
    for (const port of ports.slice(0, 2)) port.die(CRASH);
    const states = (): unknown[] => host.served.map(({ state }) => state);
    await expect.poll(states).toEqual(["failed", "failed"]);
    host.restart();
    await new Promise((resolve) => setImmediate(resolve));
    expect([states(), startedCount()]).toEqual([["loading", "loading"], 13]);
    open();
    await expect.poll(states).toEqual(["failed", "ready"]);
    expect(startedCount()).toBe(14);
    await host.stop();
  });

  it("is more patient with an engine that somebody kills", async () => {
    const { host, waits, startedCount, ports } = hostOf([model("one")], [createProbeEngine]);
    await host.start();
    while (host.find("one")?.state !== "failed") {
      ports.at(-1)?.die(KILL);
      await expect.poll(() => host.find("one")?.state).not.toBe("restarting");
    }
    expect(startedCount()).toBe(21);
    expect(waits.slice(0, 6)).toEqual([125, 250, 250, 250, 250, 500]);
    expect(Math.max(...waits)).toBe(4000);
  });

  it("forgets deaths when an engine has been up for a minute", async () => {
    const { host, waits, pass, ports } = hostOf([model("one")], [createProbeEngine]);
    await host.start();
    for (let death = 1; death <= 8; death++) {
      ports.at(-1)?.die(CRASH);
      await expect.poll(() => host.served[0]?.restarts).toBe(death);
      await expect.poll(() => host.find("one")?.state).toBe("ready");
      pass(60_000);
    }
    expect(waits).toEqual([]);
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
