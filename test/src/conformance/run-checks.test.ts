/** The checks against a server that does nearly everything wrong: each fault is found under its name. */
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ALL_CHECKS, runChecks } from "../../../src/conformance/run-checks.ts";
import type { ConformanceReport } from "../../../src/conformance/run-checks.ts";

interface Wrong {
  readonly stream?: boolean;
  readonly [field: string]: unknown;
}

const HEAD = { created: 1_700_000_000, model: "m" };
const CHUNK = { ...HEAD, id: "1", object: "chat.completion.chunk" };

/** A text answer as of an old server: no refusal, finish "eos", tool_calls [], usage that does not add up. */
function chatAnswer(): object {
  return {
    ...HEAD,
    id: "chatcmpl-1",
    object: "chat.completion",
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: "Hello there", tool_calls: [] },
        finish_reason: "eos",
      },
    ],
    usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 4 },
  };
}

/** No role, no space behind `data:`, no finish, no [DONE]. */
function chatStream(): string {
  const chunk = { ...CHUNK, choices: [{ index: 0, delta: { content: "Hello" }, finish_reason: null }] };
  return `data:${JSON.stringify(chunk)}\n\n`;
}

function answer(request: IncomingMessage, body: Wrong, response: ServerResponse): void {
  const send = (status: number, type: string, payload: string): void => {
    response.writeHead(status, { "content-type": type }).end(payload);
  };
  const json = (status: number, payload: object): void =>
    send(status, "application/json", JSON.stringify(payload));
  if (request.url === "/v1/models") {
    return json(200, { object: "list", data: [{ id: "m", object: "model", created: 1, owned_by: "me" }] });
  }
  if (request.url !== "/v1/chat/completions") return send(404, "text/plain", "not found");
  if (request.method !== "POST") return send(405, "text/plain", "no");
  if (body["temperature"] === 9) return json(422, { detail: "too hot" });
  if (body["messages"] === 3) return json(400, { error: { message: "no", type: "x", code: 400 } });
  return body.stream === true ? send(200, "text/event-stream", chatStream()) : json(200, chatAnswer());
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await text(request);
  // What is no JSON is answered like everything else.
  const fields = body.startsWith("{") && body.endsWith("}") ? (JSON.parse(body) as Wrong) : {};
  answer(request, fields, response);
}

let server: Server;
let report: ConformanceReport;

beforeAll(async () => {
  server = createServer((request, response) => void serve(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  report = await runChecks({ url: `http://127.0.0.1:${port}/v1/`, model: undefined, apiKey: undefined });
});
afterAll(() => server.close());

const resultOf = (name: string) => report.results.find((result) => result.name === name);

describe("a server that does nearly everything wrong", () => {
  it("passes where it is right, and its model is found", () => {
    expect(report.model).toBe("m");
    for (const name of ["models: list", "chat: null is absent", "chat: unknown fields are accepted"]) {
      expect(resultOf(name)).toEqual({ name, outcome: "pass", reason: undefined });
    }
  });

  const faults: [string, string][] = [
    ["models: one by its name", 'status 404: "not found"'],
    [
      "http: unknown path is 404 with an error object",
      "content-type is text/plain instead of application/json",
    ],
    ["http: a browser may ask from localhost", "status 405"],
    ["http: answers carry x-request-id", "no x-request-id header"],
    ["chat: body of an answer", 'finish "eos"'],
    ["chat: required keys refusal and logprobs are there", "message.refusal is absent instead of null"],
    ["chat: no key tool_calls in a text answer", "tool_calls is []"],
    ["chat: usage adds up", "total_tokens is 4 instead of 5"],
    ["chat: max_tokens", "completion_tokens is 2 instead of 5"],
    ["chat: stop string, never shown, nothing lost before it", 'content is "Hello there" instead of "Hel"'],
    ["chat: n choices with the indices 0 to n-1", "choices is 1 instead of 2"],
    ["chat: logprobs", "logprobs is absent, no object"],
    [
      "stream: frames, identity and order of chunks",
      expect.stringMatching(/^a frame that is not one data line: .*the last event is not \[DONE\]/) as string,
    ],
    ["errors: body that is no JSON", "status is 200 instead of 400"],
    ["errors: temperature out of range", "status is 422 instead of 400"],
    ["errors: param and code are there, strings or null", "error.param is absent"],
    ["errors: an unknown model is 404 model_not_found", "status is 200 instead of 404"],
    ["tools: required forces a call with valid arguments", "tool_calls is []"],
    ["tools: a choice of an unknown tool is refused", "status is 200 instead of 400"],
    ["structured: json_schema with pattern", 'content is no JSON: "Hello there"'],
    ["completions: body of an answer", 'status 404: "not found"'],
  ];

  it.each(faults)("fails at %s", (name, reason) => {
    expect(resultOf(name)).toEqual({ name, outcome: "fail", reason });
  });

  it("is not blamed for what it does not offer", () => {
    expect(resultOf("embeddings: floats")?.outcome).toBe("not offered");
    expect(resultOf("responses: usage")?.outcome).toBe("not offered");
  });

  it("is counted whole", () => {
    const { passed, failed, notOffered, results } = report;
    expect(results.map(({ name }) => name)).toEqual(ALL_CHECKS.map(({ name }) => name));
    expect(new Set(results.map(({ name }) => name)).size).toBe(results.length);
    expect(passed + failed + notOffered).toBe(results.length);
  });
});

it("says when there is no server", async () => {
  await expect(runChecks({ url: "http://127.0.0.1:1", model: undefined, apiKey: undefined })).rejects.toThrow(
    "fetch failed",
  );
});
