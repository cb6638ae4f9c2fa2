/** Responses that are made without a client that waits for them. */
import { describe, expect, it } from "vitest";
import { DEFAULT_STORE_LIMITS, ResponseStore } from "../../../src/responses/response-store.ts";
import { Responses } from "../../../src/responses/responses.ts";
import { createTestApp, MODEL_ID } from "../../support/test-app.ts";
import { EOS, idsOf } from "../../support/tiny-vocabulary.ts";
import { createResponsesApp, errorOf, eventsOf } from "./response-client.ts";

/** An application with a background response of one token so far. */
async function startBackground(fields: object = {}) {
  const test = createResponsesApp();
  test.engine.script = { kind: "accept" };
  const queued = await test.answer({ background: true, ...fields });
  const submit = test.engine.submits[0];
  if (submit === undefined) throw new Error("Nothing was submitted.");
  return { ...test, id: queued.id, queued, submit };
}

const END = { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } } as const;

/** Asks until the response has the status; each turn lets everything that is due happen first. */
async function untilStatus(test: Awaited<ReturnType<typeof startBackground>>, status: string): Promise<void> {
  while ((await test.get(test.id)).status !== status) await new Promise((resolve) => setImmediate(resolve));
}

describe("a background response", () => {
  it("is queued, in progress, completed, and kept", async () => {
    const test = await startBackground();
    expect(test.queued).toMatchObject({ status: "queued", background: true, output: [] });
    test.engine.step(test.submit, { tokens: idsOf("Hel") }, true);
    await untilStatus(test, "in_progress");
    expect((await test.get(test.id)).output[0]).toMatchObject({
      status: "in_progress",
      content: [{ text: "Hel" }],
    });
    test.engine.step(test.submit, END, false);
    await untilStatus(test, "completed");
    expect((await test.get(test.id)).output).toMatchObject([{ content: [{ text: "Hel" }] }]);
  });

  it("cannot be continued before it has ended", async () => {
    const { ask, id } = await startBackground();
    expect(await errorOf(ask({ previous_response_id: id }))).toMatchObject({
      status: 400,
      param: "previous_response_id",
    });
  });

  it("is cancelled once, with what there is", async () => {
    const test = await startBackground();
    test.engine.step(test.submit, { tokens: idsOf("Hel") }, true);
    await untilStatus(test, "in_progress");
    const cancelled = await (await test.call("POST", `${test.id}/cancel`)).json();
    expect(cancelled).toMatchObject({ status: "cancelled", output: [{ status: "incomplete" }] });
    expect(test.engine.cancels).toEqual([test.id]);
    test.engine.step(test.submit, { tokens: idsOf("lo") }, false);
    expect(await (await test.call("POST", `${test.id}/cancel`)).json()).toEqual(cancelled);
    expect(await test.get(test.id)).toEqual(cancelled);
  });

  it("is cancelled in the queue without having been in progress", async () => {
    const { ask, call, engine } = createResponsesApp();
    engine.script = { kind: "accept" };
    const reply = await ask({ background: true, stream: true });
    await call("POST", `${engine.submits[0]?.id}/cancel`);
    const events = await eventsOf(reply);
    expect(events.map(({ type, response }) => [type, response?.status])).toEqual([
      ["response.created", "queued"],
      ["response.queued", "queued"],
      ["response.incomplete", "cancelled"],
    ]);
  });

  it("row 125: ends when it is deleted", async () => {
    const { call, engine, id } = await startBackground();
    expect((await call("DELETE", id)).status).toBe(200);
    expect(engine.cancels).toEqual([id]);
    expect((await call("GET", id)).status).toBe(404);
  });

  it("ends when the server does", async () => {
    const { deps, engine, get, id } = await startBackground();
    deps.responses.close();
    expect(engine.cancels).toEqual([id]);
    expect(await get(id)).toMatchObject({ status: "cancelled" });
  });

  it("is streamed with response.queued before response.in_progress, to several readers", async () => {
    const { ask, call, engine } = createResponsesApp();
    engine.script = { kind: "accept" };
    const reply = await ask({ background: true, stream: true });
    const submit = engine.submits[0];
    if (submit === undefined) throw new Error("Nothing was submitted.");
    const replay = eventsOf(call("GET", `${submit.id}?stream=true&starting_after=1`));
    engine.step(submit, { tokens: idsOf("Hel") }, true);
    engine.step(submit, END, false);
    const events = await eventsOf(reply);
    expect(events.slice(0, 3).map(({ type, response }) => [type, response?.status])).toEqual([
      ["response.created", "queued"],
      ["response.queued", "queued"],
      ["response.in_progress", "in_progress"],
    ]);
    expect(events.at(-1)).toMatchObject({ type: "response.completed" });
    expect(await replay).toEqual(events.slice(2));
  });

  it("outlives the client that started and follows it", async () => {
    const test = createResponsesApp();
    test.engine.script = { kind: "accept" };
    const leave = new AbortController();
    const reply = await test.ask({ background: true, stream: true }, undefined, leave.signal);
    const reader = reply.body?.getReader();
    await reader?.read();
    leave.abort();
    await reader?.cancel();
    const submit = test.engine.submits[0];
    if (submit === undefined) throw new Error("Nothing was submitted.");
    test.engine.step(submit, { tokens: idsOf("Hel") }, true);
    test.engine.step(submit, END, false);
    const events = await eventsOf(test.call("GET", `${submit.id}?stream=true`));
    expect(events.at(-1)?.response).toMatchObject({ status: "completed", output: [{ type: "message" }] });
    expect(test.engine.cancels).toEqual([]);
  });

  it("is cancelled as well when the request that makes it is, which is no error of the server", async () => {
    const test = await startBackground();
    test.engine.step(test.submit, { tokens: idsOf("Hel") }, true);
    await untilStatus(test, "in_progress");
    await test.app.request(`/v1/requests/${test.id}`, { method: "DELETE", headers: { host: "localhost" } });
    await untilStatus(test, "cancelled");
    expect((await test.get(test.id)).output).toMatchObject([{ status: "incomplete" }]);
    expect(test.log.filter(({ level }) => level === "error")).toEqual([]);
  });

  it("is failed, with an error, when the engine fails", async () => {
    const test = await startBackground();
    test.engine.fail(test.submit, "decode_failed");
    await untilStatus(test, "failed");
    expect(await test.get(test.id)).toMatchObject({
      error: { code: "server_error", message: "The model's engine failed to compute this request." },
    });
    expect(test.log.filter(({ level }) => level === "error")).toMatchObject([
      { fields: { responseId: test.id }, message: "background response failed" },
    ]);
  });

  it("is refused without store, and what the engine refuses is refused at once", async () => {
    const { ask, engine } = createResponsesApp();
    expect(await errorOf(ask({ background: true, store: false }))).toMatchObject({
      status: 400,
      param: "background",
    });
    engine.script = {
      kind: "fail",
      code: "context_exceeded",
      details: { contextTokens: 256, promptTokens: 300 },
    };
    expect(await errorOf(ask({ background: true }))).toMatchObject({
      status: 400,
      code: "context_length_exceeded",
      param: "input",
    });
  });

  it("is one of a bounded number", async () => {
    const store = new ResponseStore(DEFAULT_STORE_LIMITS, () => 0);
    const { engine, post } = createTestApp({ responses: new Responses(store, 2) });
    engine.script = { kind: "accept" };
    const ask = (): Promise<Response> =>
      post("/v1/responses", { model: MODEL_ID, input: "hi", background: true });
    expect([(await ask()).status, (await ask()).status]).toEqual([200, 200]);
    expect(await errorOf(ask())).toMatchObject({ status: 503, code: "server_overloaded" });
    const [first] = engine.submits;
    expect((await post(`/v1/responses/${first?.id}/cancel`, {})).status).toBe(200);
    expect((await ask()).status).toBe(200);
  });
});
