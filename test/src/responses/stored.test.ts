/** Responses that are kept: continued, shown, replayed, listed and deleted. */
import { describe, expect, it } from "vitest";
import { parseApiKeys } from "../../../src/config/api-keys.ts";
import { createResponsesApp, errorOf, eventsOf } from "./response-client.ts";

const NOT_FOUND = { status: 404, type: "invalid_request_error", param: null, code: null };

describe("a stored response", () => {
  it("is shown as it was answered", async () => {
    const { answer, get } = createResponsesApp();
    const made = await answer({ metadata: { topic: "test" } });
    expect(await get(made.id)).toEqual(made);
    expect(made).toMatchObject({ status: "completed", metadata: { topic: "test" }, store: true });
  });

  it("T74: is not kept with store false", async () => {
    const { answer, call } = createResponsesApp();
    const { id } = await answer({ store: false });
    expect(await errorOf(call("GET", id))).toEqual({
      ...NOT_FOUND,
      message: `Response with id '${id}' not found.`,
    });
  });

  it("T73: is continued twice, each time from the same point, without its instructions", async () => {
    const { answer, lastPrompt } = createResponsesApp();
    const first = await answer({ input: "[one]", instructions: "[rules]" });
    expect(lastPrompt()).toBe("[rules][one]");
    const left = await answer({ input: "[left]", previous_response_id: first.id });
    expect(lastPrompt()).toBe("[one]Hello[left]");
    expect(left).toMatchObject({ previous_response_id: first.id, instructions: null });
    await answer({ input: "[right]", previous_response_id: first.id, instructions: "[others]" });
    expect(lastPrompt()).toBe("[others][one]Hello[right]");
    await answer({ input: "[end]", previous_response_id: left.id });
    expect(lastPrompt()).toBe("[one]Hello[left]Hello[end]");
  });

  it("outlives the response it continues", async () => {
    const { answer, call, lastPrompt } = createResponsesApp();
    const first = await answer({ input: "[one]" });
    const second = await answer({ input: "[two]", previous_response_id: first.id });
    expect(await (await call("DELETE", first.id)).json()).toEqual({
      id: first.id,
      object: "response",
      deleted: true,
    });
    expect((await call("GET", first.id)).status).toBe(404);
    expect((await call("DELETE", first.id)).status).toBe(404);
    await answer({ input: "[three]", previous_response_id: second.id });
    expect(lastPrompt()).toBe("[one]Hello[two]Hello[three]");
  });

  it("is continued without further input", async () => {
    const { answer, lastPrompt } = createResponsesApp();
    const first = await answer({ input: "[one]" });
    await answer({ input: null, previous_response_id: first.id });
    expect(lastPrompt()).toBe("[one]Hello");
  });

  it("row 125: must be known to be continued", async () => {
    const { ask } = createResponsesApp();
    expect(await errorOf(ask({ previous_response_id: "resp_nobody" }))).toEqual({
      status: 400,
      type: "invalid_request_error",
      message: "Previous response with id 'resp_nobody' not found.",
      param: "previous_response_id",
      code: "previous_response_not_found",
    });
  });

  it("is known to the key that made it alone", async () => {
    const { answer, ask, call } = createResponsesApp({ config: { apiKeys: parseApiKeys(["a=1", "b=2"]) } });
    const { id, output } = await answer({}, "1");
    expect((await call("GET", id, "1")).status).toBe(200);
    for (const [method, path] of [
      ["GET", id],
      ["DELETE", id],
      ["POST", `${id}/cancel`],
      ["GET", `${id}/input_items`],
    ] as const) {
      expect(await errorOf(call(method, path, "2"))).toMatchObject(NOT_FOUND);
    }
    expect(await errorOf(ask({ previous_response_id: id }, "2"))).toMatchObject({
      code: "previous_response_not_found",
    });
    const reference = { type: "item_reference", id: output[0]?.id };
    expect(await errorOf(ask({ input: [reference] }, "2"))).toMatchObject({ param: "input[0].id" });
    expect((await ask({ input: [reference] }, "1")).status).toBe(200);
  });

  it("gives its items by reference", async () => {
    const { answer, lastPrompt } = createResponsesApp();
    const { output } = await answer({ input: [{ role: "user", content: "[one]" }] });
    await answer({
      input: [
        { role: "user", content: "[zero]" },
        { type: "item_reference", id: output[0]?.id },
        { role: "user", content: "[two]" },
      ],
    });
    expect(lastPrompt()).toBe("[zero]Hello[two]");
  });

  it("T75: is streamed again from the event after the given one", async () => {
    const { ask, call } = createResponsesApp();
    const events = await eventsOf(ask({ stream: true }));
    const id = events[0]?.response?.id ?? "";
    expect(await eventsOf(call("GET", `${id}?stream=true`))).toEqual(events);
    expect(await eventsOf(call("GET", `${id}?stream=true&starting_after=3`))).toEqual(events.slice(4));
    expect(await eventsOf(call("GET", `${id}?stream=true&starting_after=99`))).toEqual([]);
    expect(await errorOf(call("GET", `${id}?stream=1`))).toMatchObject({
      status: 400,
      code: "invalid_type",
      param: "stream",
      message: "Invalid type for 'stream': expected true or false, but got '1' instead.",
    });
    expect(await errorOf(call("GET", `${id}?stream=true&starting_after=x`))).toMatchObject({
      status: 400,
      code: "invalid_type",
      param: "starting_after",
      message:
        "Invalid type for 'starting_after': expected an integer from 0 to 999999999, but got 'x' instead.",
    });
  });

  it("is streamed in fewer pieces when nobody saw them", async () => {
    const { answer, call } = createResponsesApp();
    const made = await answer();
    const events = await eventsOf(call("GET", `${made.id}?stream=true`));
    expect(events.flatMap(({ delta }) => delta ?? [])).toEqual(["Hello"]);
    expect(events.at(-1)?.response).toEqual(made);
  });

  it("lists what it was given, page by page", async () => {
    const { answer, call } = createResponsesApp();
    const first = await answer({ input: "[one]" });
    const { id } = await answer({
      input: [{ role: "user", content: "[two]" }],
      previous_response_id: first.id,
    });
    const list = async (query: string): Promise<Record<string, unknown>> =>
      (await (await call("GET", `${id}/input_items${query}`)).json()) as Record<string, unknown>;
    const one = {
      id: "msg_2_in0",
      type: "message",
      status: "completed",
      role: "user",
      content: [{ type: "input_text", text: "[one]" }],
    };
    const two = { ...one, id: "msg_4_in0", content: [{ type: "input_text", text: "[two]" }] };
    const said = first.output[0];
    expect(await list("?order=asc")).toEqual({
      object: "list",
      data: [one, said, two],
      first_id: "msg_2_in0",
      last_id: "msg_4_in0",
      has_more: false,
    });
    expect(await list("?limit=2")).toMatchObject({ data: [two, said], has_more: true });
    expect(await list(`?limit=2&after=${said?.id}`)).toMatchObject({ data: [one], has_more: false });
    for (const [query, param] of [
      ["?limit=0", "limit"],
      ["?limit=101", "limit"],
      ["?limit=x", "limit"],
      ["?order=up", "order"],
      ["?after=nothing", "after"],
    ] as const) {
      expect(await errorOf(call("GET", `${id}/input_items${query}`))).toMatchObject({ status: 400, param });
    }
  });

  it("cannot be cancelled when it was not made in the background", async () => {
    const { answer, call } = createResponsesApp();
    const { id } = await answer();
    expect(await errorOf(call("POST", `${id}/cancel`))).toMatchObject({
      status: 400,
      message: "Cannot cancel a synchronous response.",
    });
  });

  it("is not kept when its client leaves, whose generation ends", async () => {
    const { ask, engine, deps } = createResponsesApp();
    engine.script = { kind: "accept" };
    const leave = new AbortController();
    const reply = await ask({ stream: true }, undefined, leave.signal);
    const reading = reply.text().catch(() => "");
    leave.abort();
    await engine.until(() => engine.cancels.length > 0);
    await reading;
    expect(engine.cancels).toEqual(["resp_2"]);
    expect(deps.responses.find("resp_2", "anonymous")).toBeUndefined();
  });
});
