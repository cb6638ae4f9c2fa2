import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it, vi } from "vitest";
import { EngineClient } from "../../../engine/client.ts";
import { forkEngine } from "../../../engine/process/fork.ts";
import { hostEngine } from "../../../engine/process/in-process.ts";
import type { EngineEvent, EnginePort, LoadOptions } from "../../../engine/protocol.ts";
import { createProbeEngine, PROBE_VOCAB_SIZE } from "./probe-engine.ts";

const entry = new URL("./probe-entry.ts", import.meta.url);
const ports: EnginePort[] = [];

function open(create: () => EnginePort): EnginePort {
  const port = create();
  ports.push(port);
  return port;
}

afterEach(async () => {
  for (const port of ports.splice(0)) {
    port.kill();
    await port.exited;
  }
});

function ask(client: EngineClient, text: string): Promise<readonly number[]> {
  return client.tokenize([{ text, special: false }], false);
}

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

describe.each([
  ["in this process", () => hostEngine(createProbeEngine)],
  ["in a child process", () => forkEngine({ entry })],
] as const)("an engine %s", (_name, create) => {
  it("answers calls, with the data as it was when it was sent", async () => {
    const client = new EngineClient(open(create));
    expect(await ask(client, "")).toEqual([1, 2]);
  });

  it("sends token tables as the typed arrays they are", async () => {
    const facts = await new EngineClient(open(create)).load(LOAD);
    expect(facts.chatTemplate).toBeUndefined();
    expect(facts.tokenBytes).toBeInstanceOf(Uint8Array);
    expect(facts.tokenBytes.length).toBe(PROBE_VOCAB_SIZE);
    expect(facts.tokenOffsets).toBeInstanceOf(Uint32Array);
    expect(facts.tokenOffsets[PROBE_VOCAB_SIZE]).toBe(PROBE_VOCAB_SIZE);
    expect(facts.tokenAttributes).toBeInstanceOf(Uint16Array);
    expect(facts.tokenAttributes[7]).toBe(4);
  });

  it("delivers events in order and never inside `send`", async () => {
    const port = open(create);
    const events: EngineEvent[] = [];
    const answered = new Promise<void>((resolve) => {
      port.onEvent((event) => {
        events.push(event);
        if (event.type === "tokenized") resolve();
      });
    });
    port.send({ type: "tokenize", call: 7, texts: [[{ text: "many", special: false }]], addBos: false });
    expect(events).toEqual([]);
    await answered;
    expect(events.length).toBe(1001);
    expect(events[999]).toEqual({ type: "load_progress", ratio: 999 });
  });

  it("delivers what it said last before it is gone, and a stop is no surprise", async () => {
    const port = open(create);
    const events: EngineEvent[] = [];
    port.onEvent((event) => events.push(event));
    port.send({ type: "stop" });
    expect(await port.exited).toEqual({ unexpected: false, detail: "exit code 0" });
    expect(events).toEqual([{ type: "drained", call: 99 }]);
  });

  it("fails open calls when it dies by itself", async () => {
    const client = new EngineClient(open(create));
    await expect(ask(client, "throw")).rejects.toMatchObject({ code: "engine_exited" });
    expect((await client.exited).unexpected).toBe(true);
  });

  it("is gone after `kill`, and later commands are ignored", async () => {
    const port = open(create);
    port.onEvent(() => undefined);
    port.kill();
    expect(await port.exited).toEqual({ unexpected: false, detail: "signal SIGKILL" });
    port.send({ type: "stop" });
    port.kill();
  });
});

describe("an engine process", () => {
  it("runs with one libuv thread", async () => {
    expect(await ask(new EngineClient(open(() => forkEngine({ entry }))), "threads")).toEqual([1]);
  });

  it("keeps one arena of memory, unless somebody wants more", async () => {
    expect(await ask(new EngineClient(open(() => forkEngine({ entry }))), "arenas")).toEqual([1]);
    vi.stubEnv("MALLOC_ARENA_MAX", "4");
    const client = new EngineClient(open(() => forkEngine({ entry })));
    vi.unstubAllEnvs();
    expect(await ask(client, "arenas")).toEqual([4]);
  });

  it("knows no keys", async () => {
    vi.stubEnv("WEFT_API_KEYS", "secret");
    vi.stubEnv("WEFT_ADMIN_KEYS", "secret");
    vi.stubEnv("HF_TOKEN", "secret");
    const client = new EngineClient(open(() => forkEngine({ entry })));
    vi.unstubAllEnvs();
    expect(await ask(client, "secrets")).toEqual([0]);
  });

  it("does not end by the signals of a terminal", async () => {
    const client = new EngineClient(open(() => forkEngine({ entry })));
    const [pid = 0] = await ask(client, "pid");
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.kill(pid, signal);
    expect(await ask(client, "pid")).toEqual([pid]);
  });

  it("names the signal that killed it", async () => {
    const client = new EngineClient(open(() => forkEngine({ entry })));
    const [pid = 0] = await ask(client, "pid");
    process.kill(pid, "SIGSEGV");
    expect(await client.exited).toEqual({ unexpected: true, detail: "signal SIGSEGV" });
  });

  it("is killed even while it is stuck in a call", async () => {
    const client = new EngineClient(open(() => forkEngine({ entry })));
    await ask(client, "pid");
    const stuck = ask(client, "loop");
    client.kill();
    await expect(stuck).rejects.toMatchObject({ code: "engine_exited" });
  });

  it("hands over the lines it prints", async () => {
    const lines: string[] = [];
    const port = open(() => forkEngine({ entry, onStderr: (line) => lines.push(line) }));
    const client = new EngineClient(port);
    await expect(ask(client, "throw")).rejects.toMatchObject({ code: "engine_exited" });
    await expect.poll(() => lines.some((line) => line.includes("engine broke"))).toBe(true);
  });

  it("says so when its module is missing", async () => {
    const port = open(() => forkEngine({ entry: new URL("./no-such-entry.ts", import.meta.url) }));
    expect(await port.exited).toEqual({ unexpected: true, detail: "exit code 1" });
  });

  it.each(["idle", "stuck"])("ends when its parent is killed while it is %s", async (state) => {
    const parent = spawn(
      process.execPath,
      [...process.execArgv, fileURLToPath(new URL("./probe-parent.ts", import.meta.url)), state],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const [chunk] = (await once(parent.stdout, "data")) as [Buffer];
    const pid = Number(chunk.toString());
    expect(isAlive(pid)).toBe(true);
    parent.kill("SIGKILL");
    while (isAlive(pid)) await delay(10);
    expect(isAlive(pid)).toBe(false);
  });
});

/** A dead process stays in the table until whatever inherited it takes note. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !(process.platform === "linux" && / Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8")));
  } catch {
    return false;
  }
}
