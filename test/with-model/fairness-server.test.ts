/** The built server with two keys of which one asks for everything: who gets what, what the headers say, what can be changed. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";
import { eventsOf, readStream } from "../support/sse-reader.ts";

const SLOTS = 4;
/** Longer than any test waits. */
const ENDLESS = { model: "pocket", prompt: "1, 2, 3,", max_tokens: 3000, ignore_eos: true, stream: true };
const SHORT = {
  model: "pocket",
  prompt: "Once upon a time",
  max_tokens: 5,
  temperature: 0,
  ignore_eos: true,
};

let server: RunningServer;

beforeAll(async () => {
  const options = [
    ["--slots", String(SLOTS), "--context", "4096"],
    ["--api-key", "greedy=g", "--api-key", "small=s", "--admin-key", "root"],
    ["--key-policy", "greedy:queued=20", "--key-policy", "small:class=high"],
  ];
  server = await startServer(...options.flat());
});
afterAll(() => server.stop());

interface Asked {
  readonly body?: object;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

function ask(
  key: string,
  method: string,
  path: string,
  { body, headers, signal }: Asked = {},
): Promise<Response> {
  return fetch(`${server.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    ...(signal === undefined ? {} : { signal }),
  });
}

const complete = (
  key: string,
  body: object,
  headers: Asked["headers"] = {},
  signal?: AbortSignal,
): Promise<Response> => ask(key, "POST", "/v1/completions", { body, headers, ...(signal && { signal }) });

test("row 82: a key that floods the server is held to its cap, and another one is served beside it at once", async () => {
  const abort = new AbortController();
  const { signal } = abort;
  const flood = Array.from({ length: SLOTS + 20 }, () => complete("g", ENDLESS, {}, signal));
  const accepted = await Promise.all(flood);
  expect(accepted.map(({ status }) => status)).toEqual(accepted.map(() => 200));
  const refused = await complete("g", SHORT);
  expect(refused.status).toBe(429);
  expect(await refused.json()).toMatchObject({ error: { type: "requests", code: "rate_limit_exceeded" } });
  expect(refused.headers.get("x-ratelimit-limit-requests")).toBe(String(SLOTS + 20));
  expect(refused.headers.get("x-ratelimit-remaining-requests")).toBe("0");
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);

  const listed = (await (await ask("g", "GET", "/v1/requests")).json()) as { data: object[] };
  expect(listed.data).toHaveLength(SLOTS + 20);

  // Every slot is taken for as long as the flood lasts: who is answered has been given one.
  const served = await complete("s", SHORT);
  expect(served.status).toBe(200);
  expect(await served.json()).toMatchObject({ usage: { completion_tokens: 5 } });
  const metrics = await (await ask("root", "GET", "/metrics")).text();
  const shares = /^weft_evictions_total\{.*kind="share"\} (\d+)$/m.exec(metrics)?.[1];
  expect(Number(shares)).toBeGreaterThanOrEqual(1);
  abort.abort();
  await Promise.allSettled(accepted.map((response) => response.text()));
});

test("a stream is paused, goes on where it was, and is cancelled by its id", async () => {
  const alone = await complete("s", { ...SHORT, max_tokens: 300 });
  const whole = ((await alone.json()) as { choices: { text: string }[] }).choices[0]?.text;
  const headers = { "x-request-id": "paused-one" };
  const body = { ...SHORT, max_tokens: 300, stream: true };
  const streaming = complete("s", body, headers);
  const shown = async (): Promise<unknown> => (await ask("s", "GET", "/v1/requests/paused-one")).json();
  const paused = await streaming.then(() =>
    ask("s", "PATCH", "/v1/requests/paused-one", { body: { paused: true } }),
  );
  // It may have been too fast to be paused.
  if (paused.status === 200) {
    expect(await shown()).toMatchObject({ status: "paused", owner: "small" });
    expect((await ask("g", "GET", "/v1/requests/paused-one")).status).toBe(404);
    await ask("root", "PATCH", "/v1/requests/paused-one", { body: { paused: false } });
  }
  expect(await readStream(eventsOf(await streaming))).toMatchObject({ text: whole, done: true });

  const endless = await complete("s", ENDLESS, { "x-request-id": "endless" });
  expect(await (await ask("s", "DELETE", "/v1/requests/endless")).json()).toMatchObject({ deleted: true });
  expect(await endless.text()).toContain('"code":"request_cancelled"');
});

test("row 83: a deadline that has passed ends an answer with what there is, and one that cannot be kept is refused", async () => {
  const ended = await complete("s", { ...ENDLESS, stream: false }, { "x-request-deadline-ms": "700" });
  expect(ended.status).toBe(200);
  expect(await ended.json()).toMatchObject({ choices: [{ finish_reason: "length" }] });
  const tooSoon = await complete(
    "s",
    { ...SHORT, prompt: "word ".repeat(3000) },
    { "x-request-ttft-deadline-ms": "1" },
  );
  expect(tooSoon.status).toBe(429);
  expect(await tooSoon.json()).toMatchObject({ error: { code: "deadline_unreachable" } });
});
