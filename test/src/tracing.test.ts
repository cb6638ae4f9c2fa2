/** What a tracing SDK that the operator brings is told of a request; and that without one nothing is. */
import { propagation, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseApiKeys } from "../../src/config/api-keys.ts";
import { RequestTrace } from "../../src/tracing/request-trace.ts";
import { FakeTracing } from "../support/fake-tracing.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { EOS, idsOf } from "../support/tiny-vocabulary.ts";

let tracing: FakeTracing;
beforeEach(() => {
  tracing = new FakeTracing();
  trace.setGlobalTracerProvider(tracing);
  propagation.setGlobalPropagator(tracing);
});
afterEach(() => {
  trace.disable();
  propagation.disable();
});

const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";
const PARENT = { traceparent: `00-${TRACE_ID}-b7ad6b7169203331-01` };

test.each([true, false])(
  "a chat is a span of its caller's trace, with its phases (stream: %s)",
  async (stream) => {
    const { chat, engine, log } = createTestApp();
    engine.script = sayThenStop("Hello", EOS);
    const response = await chat({ stream }, { headers: PARENT });
    await response.text();
    const [request, ...phases] = tracing.spans;
    expect(request).toMatchObject({
      name: "POST /chat/completions",
      kind: SpanKind.SERVER,
      parent: { traceId: TRACE_ID, spanId: "b7ad6b7169203331" },
      status: { code: SpanStatusCode.UNSET },
    });
    expect(request?.attributes).toEqual({
      "http.request.method": "POST",
      "http.route": "/chat/completions",
      "http.response.status_code": 200,
      "url.path": "/chat/completions",
      "url.scheme": "http",
      "gen_ai.operation.name": "chat",
      "gen_ai.provider.name": "weft",
      "gen_ai.request.model": MODEL_ID,
      "gen_ai.response.finish_reasons": ["stop"],
      "gen_ai.usage.input_tokens": 2,
      "gen_ai.usage.output_tokens": 3,
      "weft.request_id": "req_1",
      "weft.owner": "anonymous",
      "weft.outcome": "ok",
    });
    expect(phases.map(({ name, attributes }) => ({ name, attributes }))).toEqual([
      { name: "queue", attributes: {} },
      { name: "prefill", attributes: { "weft.prompt_tokens": 2, "weft.cached_tokens": 1 } },
      { name: "decode", attributes: {} },
    ]);
    let before = request?.startMs ?? Infinity;
    for (const phase of phases) {
      expect(phase.parent).toEqual(request?.spanContext());
      expect(phase.startMs).toBeGreaterThanOrEqual(before);
      expect(phase.endMs).toBeGreaterThanOrEqual(phase.startMs);
      before = phase.endMs ?? Infinity;
    }
    expect(request?.endMs).toBeGreaterThanOrEqual(before);
    expect(log.at(-1)?.fields).toMatchObject({ traceId: TRACE_ID });
  },
);

test("spans hold no word of prompt, answer or key", async () => {
  const { post, engine } = createTestApp({ config: { apiKeys: parseApiKeys(["ann=sk-sesame"]) } });
  engine.script = sayThenStop("tomato", EOS);
  const headers = { authorization: "Bearer sk-sesame" };
  for (const path of ["/v1/completions?q=potato", "/v1/chat/completions", "/v1/responses", "/completion"]) {
    const messages = [{ role: "user", content: "potato" }];
    const body = { model: MODEL_ID, prompt: "potato", messages, input: "potato", user: "potato" };
    await (await post(path, body, { headers })).text();
  }
  expect(tracing.spans.map(({ name }) => name)).toContain("POST /responses");
  const told = JSON.stringify(
    tracing.spans.map(({ name, attributes, status }) => ({ name, attributes, status })),
  );
  expect(told).not.toMatch(/tomato|potato|sesame/);
  expect(told).toContain('"weft.owner":"ann"');
});

test("several choices have a queue and a prefill each, and one decode", async () => {
  const { chat, engine } = createTestApp();
  engine.script = sayThenStop("a", EOS);
  await (await chat({ n: 3 })).text();
  expect(tracing.spans.map(({ name }) => name).sort()).toEqual(
    ["POST /chat/completions", "decode", "prefill", "prefill", "prefill", "queue", "queue", "queue"].sort(),
  );
  expect(tracing.spans[0]?.attributes["gen_ai.response.finish_reasons"]).toEqual(["stop", "stop", "stop"]);
});

test("two requests at once have spans that are not mixed up", async () => {
  const { chat, engine } = createTestApp();
  const answers = [chat(), chat()];
  await engine.until(() => engine.submits.length === 2);
  for (const submit of engine.submits) engine.accept(submit);
  const finish = { reason: "stop", stopToken: EOS } as const;
  for (const submit of engine.submits.toReversed()) {
    engine.step(submit, { tokens: [...idsOf("a"), EOS], finish }, true);
  }
  for (const answer of await Promise.all(answers)) await answer.text();
  const requests = tracing.spans.filter(({ kind }) => kind === SpanKind.SERVER);
  expect(requests).toHaveLength(2);
  for (const request of requests) {
    const { spanId } = request.spanContext();
    const own = tracing.spans.filter(({ parent }) => parent?.spanId === spanId);
    expect(own.map(({ name }) => name)).toEqual(["queue", "prefill", "decode"]);
  }
});

test.each([
  [
    "a client's mistake",
    { script: undefined, fields: { temperature: 9 } },
    400,
    "decimal_above_max_value",
    SpanStatusCode.UNSET,
  ],
  ["a fault of the engine", { script: "internal", fields: {} }, 500, "internal_error", SpanStatusCode.ERROR],
  ["a full queue", { script: "queue_full", fields: {} }, 503, "server_overloaded", SpanStatusCode.ERROR],
] as const)("%s is told with its code", async (_name, { script, fields }, status, code, spanStatus) => {
  const { chat, engine } = createTestApp();
  if (script !== undefined) engine.script = { kind: "fail", code: script };
  expect((await chat(fields)).status).toBe(status);
  const [request, ...phases] = tracing.spans;
  expect(phases).toEqual([]);
  expect(request?.status.code).toBe(spanStatus);
  expect(request?.attributes).toMatchObject({ "http.response.status_code": status, "error.type": code });
  expect(request?.endMs).toBeDefined();
});

test("a stream that the engine fails is an error behind its status of 200", async () => {
  const { chat, engine } = createTestApp();
  const answer = chat({ stream: true });
  await engine.until(() => engine.submits.length === 1);
  const [submit] = engine.submits;
  if (submit === undefined) throw new Error("nothing was submitted");
  engine.accept(submit);
  engine.step(submit, { tokens: idsOf("a") }, true);
  engine.fail(submit, "decode_failed");
  await (await answer).text();
  const [request] = tracing.spans;
  expect(request?.attributes).toMatchObject({
    "http.response.status_code": 200,
    "weft.outcome": "server_error",
  });
  expect(request?.status.code).toBe(SpanStatusCode.ERROR);
  expect(tracing.spans.map(({ name }) => name).slice(1)).toEqual(["queue", "prefill", "decode"]);
});

test("paths that do not exist share a name, and what is asked every few seconds has no span", async () => {
  const { app } = createTestApp();
  await app.request("/who/knows");
  for (const path of ["/health", "/livez", "/ready", "/metrics"]) await app.request(path);
  expect(tracing.spans.map(({ name }) => name)).toEqual(["GET"]);
  expect(tracing.spans[0]?.attributes).not.toHaveProperty("http.route");
  await app.request("/v1/responses/resp_1");
  expect(tracing.spans[1]?.name).toBe("GET /responses/:id");
});

test("without an SDK there is no trace", async () => {
  trace.disable();
  propagation.disable();
  const { chat, engine, log } = createTestApp();
  engine.script = sayThenStop("Hello", EOS);
  await (await chat()).text();
  expect(tracing.spans).toEqual([]);
  expect(RequestTrace.current).toBeUndefined();
  expect(log.at(-1)?.fields["traceId"]).toBeUndefined();
});
