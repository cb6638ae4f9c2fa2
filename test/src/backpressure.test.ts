/** A client that does not read holds back its own generation, and nobody else's. */
import { describe, expect, it } from "vitest";
import { createEngine } from "../../engine/engine.ts";
import { FakeBackend, fakeOutput } from "../../engine/fake/backend.ts";
import { hostEngine } from "../../engine/process/in-process.ts";
import { Backlog } from "../../src/backlog.ts";
import { DEFAULT_LIMITS } from "../../src/config/limits.ts";
import { LOAD_OPTIONS } from "../support/engine.ts";
import { createTestApp } from "../support/test-app.ts";

const MOST = 8;
const LONG = 100;

async function start(slots: number) {
  // As a device does, each call leaves time for messages.
  const onRun = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const backend = new FakeBackend({ slots, onRun });
  const port = hostEngine((emit) => createEngine(async () => backend, emit));
  const test = createTestApp({
    port,
    facts: { ...backend.facts, loadMs: 0 },
    config: { limits: { ...DEFAULT_LIMITS, "max-unsent-events": MOST } },
  });
  await test.loaded.engine.load({ ...LOAD_OPTIONS, slots });
  const ask = (prompt: string, tokens: number, stream: boolean): Promise<Response> =>
    test.post("/v1/completions", {
      model: "tiny",
      prompt,
      temperature: 0,
      max_tokens: tokens,
      add_special_tokens: false,
      stream,
    });
  return { ...test, ask };
}

type Started = Awaited<ReturnType<typeof start>>;

/** What each slot does, once one is paused. */
async function statesWhenPaused({ loaded }: Started): Promise<string[]> {
  for (let tries = 0; tries < 1000; tries++) {
    const { slots } = await loaded.engine.stats();
    if (slots.some(({ state }) => state === "paused")) return slots.map(({ state }) => state);
  }
  throw new Error("Nothing was ever paused.");
}

const truth = (prompt: string, tokens: number): string =>
  Buffer.from(fakeOutput([...Buffer.from(prompt)], tokens)).toString();

const textOf = (stream: string): string =>
  [...stream.matchAll(/"text":("(?:[^"\\]|\\.)*")/g)]
    .map(([, text]) => JSON.parse(text ?? '""') as string)
    .join("");

describe("a backlog", () => {
  it("is full past its mark and has room at half of it", () => {
    const changes: string[] = [];
    let at = 0;
    const backlog = new Backlog(4, (full) => changes.push(`${full ? "full" : "room"} at ${at}`));
    for (at = 1; at <= 7; at++) backlog.add();
    for (at = 6; at >= 0; at--) backlog.take();
    expect(changes).toEqual(["full at 5", "room at 2"]);
  });
});

describe("a client that does not read", () => {
  it("stops its own generation after a while, and gets the whole of it later", async () => {
    const started = await start(2);
    const silent = await started.ask("silent", LONG, true);
    expect((await statesWhenPaused(started)).filter((state) => state === "paused")).toHaveLength(1);
    const before = (await started.loaded.engine.stats()).outputTokens;
    // The other one is computed from beginning to end meanwhile.
    const other = (await (await started.ask("other", LONG, false)).json()) as { choices: { text: string }[] };
    expect(other.choices[0]?.text).toBe(truth("other", LONG));
    const after = await started.loaded.engine.stats();
    expect(after.outputTokens - before).toBe(LONG);
    expect(after.slots.map(({ state }) => state)).toContain("paused");
    expect(textOf(await silent.text())).toBe(truth("silent", LONG));
    await started.loaded.engine.stop();
  });

  it("gives its slot to those who wait for one, and goes on in another", async () => {
    const started = await start(1);
    const silent = await started.ask("silent", LONG, true);
    await statesWhenPaused(started);
    const other = (await (await started.ask("other", 20, false)).json()) as { choices: { text: string }[] };
    expect(other.choices[0]?.text).toBe(truth("other", 20));
    expect(textOf(await silent.text())).toBe(truth("silent", LONG));
    await started.loaded.engine.stop();
  });

  it("is one of many that each get as much as they may leave unread, hold up nobody and leave nothing", async () => {
    const started = await start(2);
    const { engine } = started.loaded;
    const silent = await Promise.all(
      Array.from({ length: 9 }, (_, i) => started.ask(`silent ${i}`, LONG, true)),
    );
    const pauses = async (): Promise<number> => {
      const metrics = await started.deps.metrics.render(started.deps.models);
      return Number(/^weft_slow_reader_pauses_total (\d+)$/m.exec(metrics)?.[1]);
    };
    await expect.poll(pauses).toBe(9);
    const others = [1, 2, 3].map(async (i) => (await started.ask(`other ${i}`, 20, false)).json());
    expect(await Promise.all(others)).toMatchObject(
      [1, 2, 3].map((i) => ({ choices: [{ text: truth(`other ${i}`, 20) }] })),
    );
    expect(await pauses()).toBe(9);
    // One of them reads after all; the others are cut off, most of them without a slot.
    expect(textOf((await silent.shift()?.text()) ?? "")).toBe(truth("silent 0", LONG));
    for (const { body } of silent) await body?.cancel();
    await expect.poll(() => engine.openRequests).toBe(0);
    const { slots, queued } = await engine.stats();
    expect([slots.map(({ state }) => state), queued]).toEqual([["resident", "resident"], 0]);
    const timed = await started.deps.metrics.render(started.deps.models);
    const ended = /^weft_slow_reader_pause_seconds_count\{model="org\/tiny"\} (\d+)$/m.exec(timed)?.[1];
    expect(Number(ended)).toBe(await pauses());
    await engine.stop();
  });

  it("leaves nothing behind when it goes", async () => {
    const started = await start(1);
    const silent = await started.ask("silent", LONG, true);
    await statesWhenPaused(started);
    await silent.body?.cancel();
    const other = (await (await started.ask("other", 20, false)).json()) as { choices: { text: string }[] };
    expect(other.choices[0]?.text).toBe(truth("other", 20));
    expect(started.loaded.engine.openRequests).toBe(0);
    await started.loaded.engine.stop();
  });

  it("holds back a streamed response too, and never one in the background", async () => {
    const started = await start(2);
    const respond = (fields: object): Promise<Response> =>
      started.post("/v1/responses", {
        model: "tiny",
        input: "hi",
        max_output_tokens: 80,
        temperature: 0,
        ...fields,
      });
    const silent = await respond({ stream: true });
    await statesWhenPaused(started);
    const background = await respond({ background: true, stream: true });
    const { id } = (await (await respond({})).json()) as { id: string };
    expect(id).toMatch(/^resp_/);
    expect(await background.text()).toContain("event: response.incomplete");
    expect(await silent.text()).toContain("event: response.incomplete");
    await started.loaded.engine.stop();
  });
});

describe("a client that reads", () => {
  it("is never held back", async () => {
    const started = await start(1);
    expect(textOf(await (await started.ask("eager", LONG, true)).text())).toBe(truth("eager", LONG));
    const metrics = await started.deps.metrics.render(started.deps.models);
    expect(metrics).toContain("weft_slow_reader_pauses_total 0");
    await started.loaded.engine.stop();
  });
});
