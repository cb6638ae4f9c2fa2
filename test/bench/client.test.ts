import { afterEach, describe, expect, it } from "vitest";
import { Collector, streamRequest } from "../../bench/client.ts";
import type { RequestRecord, StreamedRequest, Target } from "../../bench/client.ts";
import { createManualClock } from "./manual-clock.ts";
import {
  answerWhole,
  contentChunk,
  FINISH_CHUNK,
  frame,
  ROLE_CHUNK,
  sendJson,
  startScriptedServer,
  usageChunk,
} from "./scripted-server.ts";
import type { Answer, ScriptedServer } from "./scripted-server.ts";

const request: StreamedRequest = { prompt: "one two", outputTokens: 3, seed: 5, timeoutMs: 1000 };

describe("the times of a stream", () => {
  /** Reads frames that arrive at the given times. */
  async function readAt(timed: readonly (readonly [atMs: number, text: string])[]): Promise<RequestRecord> {
    const clock = createManualClock();
    clock.advance(100);
    const collector = new Collector(clock, request);
    async function* body(): AsyncGenerator<Uint8Array, void, void> {
      for (const [atMs, text] of timed) {
        clock.advance(atMs - clock.nowMs());
        yield new TextEncoder().encode(text);
      }
    }
    return collector.read(body());
  }

  it("each chunk has the time of the read that brought it", async () => {
    const record = await readAt([
      [110, ": comment\n\n"],
      [120, frame(ROLE_CHUNK)],
      [130, frame(contentChunk("a"))],
      [170, frame(contentChunk("b")) + frame(contentChunk("c"))],
      [180, frame(FINISH_CHUNK)],
      [190, frame(usageChunk(7, 3, 2)) + frame("[DONE]")],
    ]);
    expect(record).toEqual({
      startMs: 100,
      endMs: 190,
      firstChunkMs: 120,
      choiceMs: [120, 130, 170, 170, 180],
      outputMs: [130, 170, 170],
      promptTokens: 7,
      cachedTokens: 2,
      outputTokens: 3,
      countedBy: "usage",
      finishReason: "length",
      error: undefined,
    });
  });

  it("times count from when the request was due, if that is told", () => {
    const clock = createManualClock();
    clock.advance(100);
    expect(new Collector(clock, { ...request, dueMs: 40 }).end(undefined).startMs).toBe(40);
    expect(new Collector(clock, request).end(undefined).startMs).toBe(100);
  });

  it("a frame cut in two, in the middle of a character, has the time of its end", async () => {
    const bytes = Buffer.from(frame(contentChunk("é")));
    const cut = bytes.indexOf(0xc3) + 1;
    const clock = createManualClock();
    const collector = new Collector(clock, request);
    async function* body(): AsyncGenerator<Uint8Array, void, void> {
      clock.advance(10);
      yield bytes.subarray(0, cut);
      clock.advance(10);
      yield bytes.subarray(cut);
      clock.advance(10);
      yield Buffer.from(frame(FINISH_CHUNK));
    }
    const record = await collector.read(body());
    expect(record.outputMs).toEqual([20]);
    expect(record.error).toBeUndefined();
  });

  it("without usage the output chunks are the tokens", async () => {
    const record = await readAt([[120, frame(contentChunk("a")) + frame(FINISH_CHUNK) + frame("[DONE]")]]);
    expect(record).toMatchObject({ outputTokens: 1, countedBy: "chunks", promptTokens: undefined });
  });

  it("more frames than the tokens can explain are an error", async () => {
    const record = await readAt([[120, frame(contentChunk("a")).repeat(200)]]);
    expect(record.error).toEqual({ kind: "too_many_frames", message: "More than 88 frames." });
  });
});

describe("how a request can end", () => {
  let server: ScriptedServer | undefined;

  afterEach(async () => {
    await server?.close();
    server = undefined;
  });

  async function ask(answer: Answer): Promise<RequestRecord> {
    server = await startScriptedServer(answer);
    return streamRequest(targetOf(server.url), request, createManualClock());
  }

  it("a whole stream has no error, and asked for an exact length", async () => {
    const record = await ask(answerWhole);
    expect(record).toMatchObject({ error: undefined, outputTokens: 3, cachedTokens: 4 });
    expect(server?.bodies).toEqual([
      {
        model: "scripted",
        messages: [{ role: "user", content: "one two" }],
        max_tokens: 3,
        ignore_eos: true,
        temperature: 0,
        seed: 5,
        stream: true,
        stream_options: { include_usage: true },
      },
    ]);
  });

  it("a status other than 200 is an error with the server's message", async () => {
    const record = await ask((response) => sendJson(response, 500, { error: { message: "boom" } }));
    expect(record.error).toEqual({ kind: "http_500", message: "boom" });
  });

  it("an error frame in mid-stream is an error, although the status was 200", async () => {
    const record = await ask((response) => {
      response.writeHead(200);
      response.end(frame(contentChunk("a")) + frame({ error: { message: "engine died" } }) + frame("[DONE]"));
    });
    expect(record.error).toEqual({ kind: "error_frame", message: "engine died" });
    expect(record.outputMs).toHaveLength(1);
  });

  it("a stream that ends without a finish reason is an error", async () => {
    const record = await ask((response) => {
      response.writeHead(200);
      response.end(frame(contentChunk("a")) + frame("[DONE]"));
    });
    expect(record.error).toEqual({ kind: "no_finish", message: "1 frames, then [DONE]." });
  });

  it("a stream that finishes without output is an error", async () => {
    const record = await ask((response) => {
      response.writeHead(200);
      response.end(frame(ROLE_CHUNK) + frame(FINISH_CHUNK) + frame("[DONE]"));
    });
    expect(record.error?.kind).toBe("no_output");
  });

  it("a frame that is not JSON is an error", async () => {
    const record = await ask((response) => {
      response.writeHead(200);
      response.end(frame("{oops"));
    });
    expect(record.error).toEqual({ kind: "malformed_frame", message: "{oops" });
  });

  it("a connection closed in mid-stream or before the answer is an error", async () => {
    const cut = await ask((response) => {
      response.writeHead(200);
      response.write(frame(contentChunk("a")), () => response.destroy());
    });
    // Where it was to be closed anyway, an end in the middle looks to the client of Node 20 like that of the answer.
    expect(cut.error?.kind).toBeOneOf(["no_finish", "connection"]);
    await server?.close();
    const unanswered = await ask((response) => void response.destroy());
    expect(unanswered.error?.kind).toBe("connection");
  });

  it("a refused connection is an error", async () => {
    server = await startScriptedServer(answerWhole);
    const { url } = server;
    await server.close();
    server = undefined;
    const record = await streamRequest(targetOf(url), request, createManualClock());
    expect(record.error?.kind).toBe("connection");
    expect(record.error?.message).toMatch(/^ECONNREFUSED/);
  });

  it("no request takes the connection of another one, which its server may be about to close", async () => {
    const sockets = new Set<unknown>();
    server = await startScriptedServer((response, body) => {
      sockets.add(response.socket);
      answerWhole(response, body);
    });
    for (let i = 0; i < 3; i++) await streamRequest(targetOf(server.url), request, createManualClock());
    expect(sockets.size).toBe(3);
  });

  it("a refusal has the time of the next try, exactly where the server says it so", async () => {
    const refuse = async (headers: Record<string, string>): Promise<number | undefined> => {
      const { retryAfterMs } = await ask((response) => response.writeHead(429, headers).end("{}"));
      await server?.close();
      return retryAfterMs;
    };
    expect(await refuse({ "retry-after": "2" })).toBe(2000);
    expect(await refuse({ "retry-after": "2", "retry-after-ms": "1234" })).toBe(1234);
    expect(await refuse({ "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT" })).toBeUndefined();
    expect(await refuse({})).toBeUndefined();
  });

  it("a request that is given up is cancelled, before it is sent or in its middle", async () => {
    server = await startScriptedServer((response) => {
      response.writeHead(200);
      response.write(frame(contentChunk("a")));
    });
    const abort = new AbortController();
    const cancellable = { ...request, signal: abort.signal, onOutput: () => abort.abort() };
    const record = await streamRequest(targetOf(server.url), cancellable, createManualClock());
    expect(record).toMatchObject({ error: { kind: "cancelled" }, outputMs: [0] });
    const late = await streamRequest(targetOf(server.url), cancellable, createManualClock());
    expect(late).toMatchObject({ error: { kind: "cancelled" }, outputMs: [] });
    expect(server.bodies).toHaveLength(1);
  });

  it("a request past its time limit is a timeout, and the server sees it go", async () => {
    const clock = createManualClock();
    let gone: () => void = () => undefined;
    const left = new Promise<void>((resolve) => (gone = resolve));
    server = await startScriptedServer((response) => {
      response.writeHead(200);
      response.write(frame(contentChunk("a")));
      response.on("close", gone);
    });
    const record = await streamRequest(
      targetOf(server.url),
      { ...request, onOutput: () => clock.advance(1000) },
      clock,
    );
    expect(record.error).toEqual({ kind: "timeout", message: "Not finished after 1000 ms." });
    await left;
  });
});

describe("what a request can say and keep", () => {
  it("sends messages, fields and headers, and puts the answer together", async () => {
    const call = (index: number, fields: object): unknown => ({
      choices: [{ index: 0, delta: { tool_calls: [{ index, ...fields }] }, finish_reason: null }],
    });
    const server = await startScriptedServer((response) => {
      response.writeHead(200);
      const first = { id: "c1", function: { name: "get", arguments: '{"a"' } };
      response.end(
        [
          contentChunk("Let me "),
          contentChunk("see."),
          call(0, first),
          call(1, { id: "c2", function: { name: "put", arguments: "{}" } }),
          call(0, { function: { arguments: ":1}" } }),
          FINISH_CHUNK,
          "[DONE]",
        ]
          .map(frame)
          .join(""),
      );
    });
    const messages = [
      { role: "user", content: "u" },
      { role: "assistant", content: "a" },
    ] as const;
    const record = await streamRequest(
      targetOf(server.url),
      {
        ...request,
        prompt: messages,
        fields: { tools: [1], ignore_eos: false },
        headers: { "x-a": "b" },
        keepAnswer: true,
      },
      createManualClock(),
    );
    await server.close();
    expect(server.bodies).toMatchObject([{ messages, tools: [1], ignore_eos: false, max_tokens: 3 }]);
    expect(server.headers).toMatchObject([{ "x-a": "b" }]);
    expect(record.answer).toBe("Let me see.");
    // Two pieces of content and three of calls.
    expect(record.outputMs).toHaveLength(5);
  });
});

function targetOf(url: string): Target {
  return { url, endpoint: "chat", model: "scripted", apiKey: undefined };
}
