/** T08: a client that leaves frees what its request held, whatever the request was doing. */
import { afterEach, describe, expect, test } from "vitest";
import type { ServerLoad } from "../support/server.ts";
import { eventsOf } from "../support/sse-reader.ts";
import { asking, MODEL, server } from "./harness.ts";
import { CONTEXT, SLOTS } from "./server-setup.ts";

/** Longer than any test waits. */
const ENDLESS = { model: MODEL, ...asking("Count from 1 to 100."), ignore_eos: true, max_tokens: CONTEXT };

const idle = ({ busySlots, running, waiting }: ServerLoad): boolean => busySlots + running + waiting === 0;
const hasRunning =
  (count: number) =>
  ({ running }: ServerLoad): boolean =>
    running === count;

const leavers: (() => void)[] = [];
afterEach(async () => {
  for (const leave of leavers.splice(0)) leave();
  await server.loadThat("an idle server", idle);
});

/** Sends a request and returns how to hang up on it. */
function send(body: object): { readonly answer: Promise<Response>; readonly leave: () => void } {
  const controller = new AbortController();
  const answer = server.post("/v1/chat/completions", body, controller.signal);
  answer.catch(() => undefined);
  leavers.push(() => controller.abort());
  return { answer, leave: () => controller.abort() };
}

describe("T08 a client that hangs up", () => {
  test("T08a in the middle of a stream", async () => {
    const { answer, leave } = send({ ...ENDLESS, stream: true });
    const events = eventsOf(await answer);
    for (let i = 0; i < 3; i++) expect((await events.next()).done).toBe(false);
    leave();
    expect(await server.loadThat("an idle server", idle)).toMatchObject({ running: 0 });
  });

  test("T08b while a whole answer is computed", async () => {
    const { answer, leave } = send(ENDLESS);
    await server.loadThat("a running request", hasRunning(1));
    leave();
    await expect(answer).rejects.toMatchObject({ name: "AbortError" });
    expect(await server.loadThat("an idle server", idle)).toMatchObject({ running: 0 });
  });

  test("T08c while its prompt is computed", async () => {
    const prompt = Array.from({ length: CONTEXT - 50 }, (_, i) => 300 + (i % 1500));
    const controller = new AbortController();
    const body = { model: MODEL, prompt, max_tokens: 1, ignore_eos: true };
    const answer = server.post("/v1/completions", body, controller.signal);
    answer.catch(() => undefined);
    await server.loadThat("a busy slot", ({ busySlots }) => busySlots > 0);
    controller.abort();
    expect(await server.loadThat("an idle server", idle)).toMatchObject({ running: 0 });
  });

  test("T08d while it waits for a slot", async () => {
    for (let i = 0; i < SLOTS; i++) {
      const { answer } = send({ ...ENDLESS, stream: true });
      expect((await answer).status).toBe(200);
    }
    await server.loadThat("occupied slots", hasRunning(SLOTS));
    const { answer, leave } = send(ENDLESS);
    await server.loadThat("a queue", ({ waiting }) => waiting === 1);
    leave();
    await expect(answer).rejects.toMatchObject({ name: "AbortError" });
    const load = await server.loadThat("an empty queue", ({ waiting }) => waiting === 0);
    expect(load.running).toBe(SLOTS);
  });
});
