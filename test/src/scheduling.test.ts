/** What a request says of its urgency, what its key allows, and what the answer's headers say of that. */
import { describe, expect, test } from "vitest";
import { PriorityClass } from "../../engine/sharing.ts";
import { keyPolicies } from "../../src/config/key-policies.ts";
import { parseApiKeys } from "../../src/config/api-keys.ts";
import { duration } from "../../src/openai/limit-headers.ts";
import { createTestApp } from "../support/test-app.ts";
import { EOS } from "../support/tiny-vocabulary.ts";
import { sayThenStop } from "../support/scripted-engine.ts";

const { high, normal, low, background } = PriorityClass;
const answering = (options: Parameters<typeof createTestApp>[0] = {}) => {
  const app = createTestApp(options);
  app.engine.script = sayThenStop("a", EOS);
  return app;
};

/** What generates, with the least that each needs. */
const messages = [{ role: "user", content: "hi" }];
const GENERATORS = [
  ["/v1/chat/completions", { messages }],
  ["/v1/completions", { prompt: "hi" }],
  ["/v1/responses", { input: "hi" }],
  ["/v1/messages", { messages, max_tokens: 5 }],
  ["/completion", { prompt: "hi" }],
  ["/infill", { input_prefix: "a", input_suffix: "b" }],
] as const;
/** Whose model fills gaps, too. */
const FILLING = { facts: { fim: { prefix: 2, suffix: 3, middle: 4 } } };

describe("the class of a request", () => {
  test.each([
    [{}, {}, normal],
    [{ priority: 0 }, {}, normal],
    [{ priority: -5 }, {}, high],
    [{ priority: 1 }, {}, low],
    [{ priority: 99 }, {}, background],
    [{ priority: "high" }, {}, high],
    [{ priority: "background" }, { "x-request-priority": "high" }, background],
    [{}, { "x-request-priority": "low" }, low],
    [{}, { "x-request-priority": "-1" }, high],
    [{ priority: null }, {}, normal],
  ])("of %j and %j is %i", async (fields, headers, expected) => {
    const { chat, engine } = answering();
    expect((await chat(fields, { headers })).status).toBe(200);
    expect(engine.submits[0]?.priority).toBe(expected);
  });

  test.each([
    ["two keys", undefined, "a", normal],
    ["a policy that allows it", "a:class=high", "a", high],
    ["a policy of every key", "*:class=low,b:weight=2", "a", low],
    ["a policy that says nothing of it", "*:class=low,a:weight=2", "a", normal],
  ])("is bounded by the key: %s", async (_case, policy, key, expected) => {
    const apiKeys = parseApiKeys(["a=a", "b=b"]);
    const policies = policy === undefined ? undefined : keyPolicies.read(policy);
    const { chat, engine } = answering({ config: { apiKeys, ...(policies && { keyPolicies: policies }) } });
    const headers = { authorization: `Bearer ${key}` };
    expect((await chat({ priority: "high" }, { headers })).status).toBe(200);
    expect(engine.submits[0]?.priority).toBe(expected);
  });

  test.each([
    [{ priority: "high", foo: 1 }, {}, "priority,foo"],
    [{}, { "x-request-priority": "-1" }, "x-request-priority"],
    [{ priority: "normal" }, { "x-request-priority": "high" }, null],
    [{ priority: "low" }, {}, null],
    [{}, {}, null],
  ])("above its key's has no effect, and is listed as such: %j, %j", async (fields, given, ignored) => {
    const { post } = answering({ ...FILLING, config: { apiKeys: parseApiKeys(["a=a", "b=b"]) } });
    const headers = { ...given, authorization: "Bearer a" };
    for (const [path, input] of GENERATORS) {
      const response = await post(path, { model: "org/tiny", ...input, ...fields }, { headers });
      expect([path, response.status, response.headers.get("x-weft-ignored-params")]).toEqual([
        path,
        200,
        ignored,
      ]);
    }
  });

  test.each([
    ["a policy below normal", "*:class=low", "normal", "priority"],
    ["nothing that is asked for", "*:class=low", undefined, null],
    ["a policy that allows it", "*:class=high", "high", null],
  ])("is listed only where it was asked for in vain: %s", async (_case, policy, priority, ignored) => {
    const policies = keyPolicies.read(policy);
    const { chat } = answering({ config: { ...(policies && { keyPolicies: policies }) } });
    const response = await chat({ priority });
    expect(response.headers.get("x-weft-ignored-params")).toBe(ignored);
  });

  test.each([
    [
      "priority",
      { priority: "urgent" },
      {},
      'Invalid type for \'priority\': expected an integer, "high", "normal", "low" or "background", but got a string instead.',
    ],
    [
      "x-request-priority",
      {},
      { "x-request-priority": "urgent" },
      'Invalid header \'x-request-priority\': expected an integer, "high", "normal", "low" or "background".',
    ],
    [
      "x-request-deadline-ms",
      {},
      { "x-request-deadline-ms": "0" },
      "Invalid header 'x-request-deadline-ms': expected a whole number of milliseconds from 1 to 86400000.",
    ],
    [
      "x-request-ttft-deadline-ms",
      {},
      { "x-request-ttft-deadline-ms": "1s" },
      "Invalid header 'x-request-ttft-deadline-ms': expected a whole number of milliseconds from 1 to 86400000.",
    ],
  ])("or a deadline that is none is a 400 for %s", async (param, fields, headers, message) => {
    const { chat } = answering();
    const response = await chat(fields, { headers });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param, message } });
  });
});

test.each(GENERATORS)("%s passes class and deadlines on, and tells what is left", async (path, input) => {
  const keys = parseApiKeys(["a=a"]);
  const policies = keyPolicies.read("a:class=low");
  const app = answering({
    ...FILLING,
    config: { apiKeys: keys, ...(policies && { keyPolicies: policies }) },
  });
  const headers = {
    "x-request-deadline-ms": "5000",
    "x-request-ttft-deadline-ms": "200",
    authorization: "Bearer a",
  };
  app.engine.allowance = { requests: 7, requestsLeft: 6, requestsResetMs: 0 };
  const ask = (more: object): Promise<Response> =>
    app.post(path, { model: "org/tiny", ...input, ...more }, { headers });
  const response = await ask({});
  expect(response.status).toBe(200);
  expect(response.headers.get("x-ratelimit-limit-requests")).toBe("7");
  await ask({ priority: "background" });
  const asked = { endWithinMs: 5000, firstTokenWithinMs: 200 };
  expect(app.engine.submits).toMatchObject([
    { ...asked, priority: low },
    { ...asked, priority: background },
  ]);
  headers["x-request-deadline-ms"] = "soon";
  expect((await ask({})).status).toBe(400);
});

describe.each([
  ["/v1/embeddings", { input: "hi" }],
  ["/embedding", { content: "hi" }],
  ["/v1/rerank", { query: "hi", documents: ["a"] }],
] as const)("%s", (path, input) => {
  const facts = { ranking: true, embeddings: { dimensions: 1, pooling: "cls", contextTokens: 64 } } as const;
  const asking = () => {
    const policies = keyPolicies.read("a:class=low");
    const app = createTestApp({
      facts,
      config: { apiKeys: parseApiKeys(["a=a"]), ...(policies && { keyPolicies: policies }) },
    });
    const ask = (headers: Record<string, string>, more: object = {}): Promise<Response> =>
      app.post(
        path,
        { model: "org/tiny", ...input, ...more },
        { headers: { authorization: "Bearer a", ...headers } },
      );
    return { ...app, ask };
  };

  test("is asked of the engine for its key, in a class that the key may have", async () => {
    const { ask, engine } = asking();
    engine.vectorOf = () => Float32Array.of(1);
    engine.scoreOf = () => 1;
    const response = await ask({ "x-request-priority": "high" });
    expect([response.status, response.headers.get("x-weft-ignored-params")]).toEqual([
      200,
      "x-request-priority",
    ]);
    await ask({ "x-request-priority": "background" });
    expect(engine.commands).toMatchObject([
      { owner: "a", priority: low },
      { owner: "a", priority: background },
    ]);
    expect((await ask({ "x-request-priority": "urgent" })).status).toBe(400);
    await ask({ "x-request-priority": "low" }, { priority: "background" });
    expect(engine.commands.at(-1)).toMatchObject({ priority: background });
  });

  test.each(["x-request-deadline-ms", "x-request-ttft-deadline-ms"])(
    "ends with 504 at its %s",
    async (name) => {
      const { ask, engine } = asking();
      const response = await ask({ [name]: "1" });
      expect(response.status).toBe(504);
      expect(await response.json()).toMatchObject({ error: { code: "deadline_exceeded" } });
      expect(engine.commands.at(-1)).toMatchObject({ type: "cancel_call" });
    },
  );

  test("that its key may not have open now is a 429", async () => {
    const { ask, engine } = asking();
    const answer = ask({});
    await engine.until(() => engine.commands.length > 0);
    const [command] = engine.commands;
    if (command === undefined || !("call" in command)) throw new Error("nothing was asked");
    const details = { limit: 3, retryAfterMs: 1500, requests: 4, requestsLeft: 0, requestsResetMs: 2000 };
    engine.failCall(command.call, "owner_queue_full", details);
    const response = await answer;
    expect([response.status, response.headers.get("retry-after")]).toEqual([429, "2"]);
  });
});

test.each([
  [{ "x-stainless-retry-count": "0" }, 59_000],
  [{ "user-agent": "ai/5.0.0 ai-sdk/openai-compatible/2.0.0 runtime/node.js/22" }, 59_000],
  [{ "user-agent": "curl/8.0" }, undefined],
] as const)("the engine knows who comes back within a minute alone: %o", async (headers, returnsWithinMs) => {
  const { chat, engine } = answering();
  expect((await chat({}, { headers: { ...headers } })).status).toBe(200);
  expect(engine.submits[0]?.returnsWithinMs).toBe(returnsWithinMs);
});

describe("refusals", () => {
  const details = {
    limit: 3,
    predictedMs: 2345.6,
    enoughMs: 2814.72,
    retryAfterMs: 1500,
    requests: 7,
    requestsLeft: 0,
    requestsResetMs: 61_000,
  };
  test.each([
    [
      "owner_queue_full",
      429,
      {
        message:
          "Rate limit reached: 3 requests of this API key may wait, and no more. Please try again later.",
        type: "requests",
        param: null,
        code: "rate_limit_exceeded",
      },
    ],
    [
      "owner_tokens_exceeded",
      429,
      {
        message:
          "Rate limit reached: requests of this API key with 3 prompt tokens may wait. Please try again later.",
        type: "tokens",
        param: null,
        code: "rate_limit_exceeded",
      },
    ],
    [
      "first_token_too_late",
      429,
      {
        message:
          "The first token would come after about 2346 ms, or up to 2815 ms, and the request allows less.",
        type: "requests",
        param: null,
        code: "deadline_unreachable",
        predicted_ttft_ms: 2346,
      },
    ],
    [
      "queue_full",
      503,
      {
        message:
          "The first token would come after about 2346 ms, later than this server lets anybody wait (--ttft-limit). Please try again later.",
        type: "server_error",
        param: null,
        code: "server_overloaded",
      },
    ],
  ] as const)("for %s say when to come back", async (code, status, error) => {
    const { chat, engine } = createTestApp();
    engine.script = { kind: "fail", code, details };
    const response = await chat({ stream: true });
    expect(response.status).toBe(status);
    expect(await response.json()).toEqual({ error });
    expect(response.headers.get("retry-after")).toBe("2");
    expect(response.headers.get("retry-after-ms")).toBe("1500");
    const own = status === 429;
    expect(response.headers.get("x-ratelimit-limit-requests")).toBe(own ? "7" : null);
    expect(response.headers.get("x-ratelimit-remaining-requests")).toBe(own ? "0" : null);
    expect(response.headers.get("x-ratelimit-reset-requests")).toBe(own ? "1m1s" : null);
  });

  test("name more than a deadline allows where less is predicted", async () => {
    const { chat, engine } = createTestApp();
    for (const [predictedMs, enoughMs, told] of [
      [0.9, 1.08, "about 1 ms, or up to 2 ms"],
      [1.9, 2, "about 2 ms, or up to 3 ms"],
    ] as const) {
      engine.script = { kind: "fail", code: "first_token_too_late", details: { predictedMs, enoughMs } };
      expect(await (await chat()).json()).toMatchObject({
        error: { message: `The first token would come after ${told}, and the request allows less.` },
      });
    }
    engine.script = { kind: "fail", code: "queue_full", details: { predictedMs: 1000.2 } };
    expect(await (await chat()).json()).toMatchObject({
      error: { message: expect.stringContaining("after about 1001 ms, later than this server lets") },
    });
  });

  test("for a deadline that has passed are a 504 that nobody need repeat", async () => {
    const { chat, engine } = createTestApp();
    engine.script = { kind: "fail", code: "deadline_exceeded" };
    const response = await chat();
    expect(response.status).toBe(504);
    expect(await response.json()).toEqual({
      error: {
        message: "The request was not answered within the time it allowed.",
        type: "server_error",
        param: null,
        code: "deadline_exceeded",
      },
    });
    expect(response.headers.get("x-should-retry")).toBe("false");
  });
});

test("an answer says what is left to its key, from the engine's own counters", async () => {
  const { chat, engine } = answering();
  engine.allowance = {
    requests: 12,
    requestsLeft: 11,
    requestsResetMs: 250,
    tokens: 900,
    tokensLeft: 880,
    tokensResetMs: 1500,
  };
  const { headers } = await chat({ stream: true });
  const limits = [...headers].filter(([name]) => name.startsWith("x-ratelimit"));
  expect(Object.fromEntries(limits)).toEqual({
    "x-ratelimit-limit-requests": "12",
    "x-ratelimit-remaining-requests": "11",
    "x-ratelimit-reset-requests": "250ms",
    "x-ratelimit-limit-tokens": "900",
    "x-ratelimit-remaining-tokens": "880",
    "x-ratelimit-reset-tokens": "1.5s",
  });
});

test.each([
  [0, "0ms"],
  [999.4, "999ms"],
  [1000, "1s"],
  [59_999, "59.999s"],
  [60_000, "1m0s"],
  [3_723_400, "1h2m3s"],
])("%d ms is written as %s", (ms, text) => {
  expect(duration(ms)).toBe(text);
});

describe("key policies", () => {
  test("are read from text and from the file's objects alike", () => {
    const text = keyPolicies.read("a:weight=2:class=low:running=4,*:queued=20:queued-tokens=5000");
    const object = keyPolicies.read({
      a: { weight: 2, class: "low", running: 4 },
      "*": { queued: 20, "queued-tokens": 5000 },
    });
    const others = { weight: 1, maxRunning: Infinity, maxQueued: 20, maxQueuedTokens: 5000 };
    const owners = new Map([
      ["a", { weight: 2, maxRunning: 4, maxQueued: Infinity, maxQueuedTokens: Infinity }],
    ]);
    for (const policies of [text, object]) {
      expect(policies?.fairness).toEqual({ owners, others });
      expect([policies?.bestClass("a"), policies?.bestClass("b")]).toEqual([low, undefined]);
    }
  });

  test.each([
    "a",
    "a:",
    ":weight=1",
    "a:weight=0",
    "a:weight=x",
    "a:running=0",
    "a:queued=1.5",
    "a:class=urgent",
    "a:color=red",
    "a:weight=1,a:weight=2",
    7,
    { a: 1 },
    { a: { running: "many" } },
  ])("%j is none", (raw) => {
    expect(keyPolicies.read(raw)).toBeUndefined();
  });
});
