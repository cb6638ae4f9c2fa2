/** `/v1/requests`: requests that are being answered, seen and changed by those who may. */
import { expect, test } from "vitest";
import { parseApiKeys } from "../../src/config/api-keys.ts";
import { createTestApp } from "../support/test-app.ts";

const bearer = (key: string): Record<string, string> => ({
  authorization: `Bearer ${key}`,
  host: "localhost",
});

/** An app with one stream under way, of the key `a` if there are keys. */
async function streaming(config: Parameters<typeof createTestApp>[0] = {}, fields: object = {}) {
  const app = createTestApp(config);
  app.engine.script = { kind: "accept" };
  const headers = { ...bearer("a"), "x-request-id": "mine" };
  const response = await app.chat({ stream: true, ...fields }, { headers });
  const ask = async (method: string, path: string, key = "a", body?: object) => {
    const init = { method, headers: { ...bearer(key), "content-type": "application/json" } };
    const answer = await app.app.request(
      `/v1/requests${path}`,
      body === undefined ? init : { ...init, body: JSON.stringify(body) },
    );
    const json: unknown = await answer.json();
    return { status: answer.status, body: json };
  };
  return { ...app, response, ask };
}

const SHOWN = {
  id: "chatcmpl-1",
  object: "request",
  request_id: "mine",
  model: "org/tiny",
  owner: "anonymous",
  status: "queued",
  priority: "normal",
  choices: 1,
  prompt_tokens: 2,
  completion_tokens: 0,
  age_ms: 0,
};

test("a request is shown by both of its ids while it is answered, and not afterwards", async () => {
  const { ask, engine, response } = await streaming();
  expect(await ask("GET", "/chatcmpl-1")).toEqual({ status: 200, body: SHOWN });
  expect(await ask("GET", "/mine")).toEqual({ status: 200, body: SHOWN });
  expect(await ask("GET", "")).toEqual({ status: 200, body: { object: "list", data: [SHOWN] } });
  const [submit] = engine.submits;
  if (submit !== undefined)
    engine.step(submit, { tokens: [5], finish: { reason: "length", stopToken: undefined } }, true);
  await response.text();
  expect(await ask("GET", "")).toEqual({ status: 200, body: { object: "list", data: [] } });
  expect(await ask("GET", "/mine")).toEqual({
    status: 404,
    body: {
      error: {
        message: "No request with id 'mine' is being answered.",
        type: "invalid_request_error",
        param: null,
        code: "request_not_found",
      },
    },
  });
});

test("it is paused, resumed and moved to another class, all of its choices", async () => {
  const { ask, engine } = await streaming({}, { n: 2 });
  expect(await ask("PATCH", "/mine", "a", { paused: true })).toMatchObject({
    body: { status: "paused", choices: 2 },
  });
  expect(await ask("PATCH", "/mine", "a", { paused: false, priority: "low" })).toMatchObject({
    body: { status: "queued", priority: "low" },
  });
  expect(engine.commands.filter(({ type }) => type === "control")).toEqual([
    { type: "control", id: "chatcmpl-1", change: { paused: true } },
    { type: "control", id: "chatcmpl-1-1", change: { paused: true } },
    { type: "control", id: "chatcmpl-1", change: { paused: false, priority: 2 } },
    { type: "control", id: "chatcmpl-1-1", change: { paused: false, priority: 2 } },
  ]);
});

test.each([
  [{}, "missing_required_parameter", "paused"],
  [{ paused: "yes" }, "invalid_type", "paused"],
  [{ priority: "urgent" }, "invalid_type", "priority"],
  [{ max_tokens: 5 }, "unknown_parameter", "max_tokens"],
])("a change to %j is refused", async (body, code, param) => {
  const { ask } = await streaming();
  expect(await ask("PATCH", "/mine", "a", body)).toMatchObject({
    status: 400,
    body: { error: { code, param } },
  });
});

test("it is cancelled, which its client is told", async () => {
  const { ask, engine, response } = await streaming();
  expect(await ask("DELETE", "/mine")).toEqual({
    status: 200,
    body: { id: "chatcmpl-1", object: "request", deleted: true },
  });
  expect(engine.cancels).toEqual(["chatcmpl-1"]);
  expect(await response.text()).toContain('"code":"request_cancelled"');
  expect(await ask("DELETE", "/mine")).toMatchObject({ status: 404 });
});

const requestCounts = async (app: { readonly request: (path: string) => Response | Promise<Response> }) => {
  const text = await (await app.request("/metrics")).text();
  return [...text.matchAll(/^weft_requests_total\{endpoint="(chat|responses)",outcome="(\w+)"\} (\d+)$/gm)]
    .filter(([, , , count]) => count !== "0")
    .map(([, endpoint, outcome, count]) => `${endpoint} ${outcome} ${count}`);
};

test.each([true, false])(
  "it counts as cancelled, whatever its client is told, streamed: %s",
  async (stream) => {
    const app = createTestApp();
    app.engine.script = { kind: "accept" };
    const asked = app.chat({ stream });
    await expect.poll(() => app.deps.live.list(undefined).length).toBe(1);
    const [request] = app.deps.live.list(undefined);
    await app.app.request(`/v1/requests/${request?.id}`, { method: "DELETE", headers: bearer("a") });
    const response = await asked;
    expect(response.status).toBe(stream ? 200 : 409);
    expect(await response.text()).toContain(
      '{"error":{"message":"The request was cancelled before it was finished.","type":"invalid_request_error",' +
        '"param":null,"code":"request_cancelled"',
    );
    expect(await requestCounts(app.app)).toEqual(["chat cancelled 1"]);
  },
);

test("a stream of a response counts as cancelled as well", async () => {
  const app = createTestApp();
  app.engine.script = { kind: "accept" };
  const response = await app.post("/v1/responses", { model: "org/tiny", input: "hi", stream: true });
  await expect.poll(() => app.deps.live.list(undefined).length).toBe(1);
  const [request] = app.deps.live.list(undefined);
  await app.app.request(`/v1/requests/${request?.id}`, { method: "DELETE", headers: bearer("a") });
  expect(await response.text()).toContain('"code":"request_cancelled"');
  expect(await requestCounts(app.app)).toEqual(["responses cancelled 1"]);
});

test("keys see their own requests, admins everybody's, and only admins go beyond the class of a key", async () => {
  const config = { apiKeys: parseApiKeys(["a=a", "b=b"]), adminKeys: parseApiKeys(["root"], "admin") };
  const { ask, engine } = await streaming({ config });
  expect(await ask("GET", "", "b")).toEqual({ status: 200, body: { object: "list", data: [] } });
  for (const [method, body] of [["GET"], ["PATCH", { paused: true }], ["DELETE"]] as const)
    expect(await ask(method, "/mine", "b", body)).toMatchObject({ status: 404 });
  expect(await ask("GET", "/mine", "a")).toMatchObject({ body: { owner: "a" } });
  expect(await ask("GET", "", "root")).toMatchObject({ body: { data: [{ owner: "a" }] } });
  expect(await ask("GET", "", "nobody")).toMatchObject({ status: 401 });
  expect(await ask("PATCH", "/mine", "a", { priority: "high" })).toMatchObject({
    body: { priority: "normal" },
  });
  expect(await ask("PATCH", "/mine", "root", { priority: "high" })).toMatchObject({
    body: { priority: "high" },
  });
  expect(engine.commands.at(-1)).toMatchObject({ type: "control", change: { priority: 0 } });
});
