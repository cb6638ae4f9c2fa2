/**
 * One streamed request as a client sees it: when each chunk arrived, how many tokens it was, how it ended.
 *
 * A chunk's time is the time at which its bytes were read; chunks that came in one read share it. Nothing
 * throws: a request that fails is a record with an error, because a benchmark must count it.
 */
import { createParser } from "eventsource-parser";
import { describeConnectionError } from "../models/command-line/connection-error.ts";
import { describeErrorBody, parsePayload } from "./chunk.ts";
import type { Payload, Usage } from "./chunk.ts";
import type { BenchClock } from "./clock.ts";

export type Endpoint = "chat" | "completions" | "embeddings";

export interface Target {
  /** Without `/v1` and without a slash at the end. */
  readonly url: string;
  readonly endpoint: Endpoint;
  readonly model: string;
  readonly apiKey: string | undefined;
}

/** A message of a chat, as it is sent. */
export interface ChatMessage {
  readonly role: "user" | "assistant";
  readonly content: string;
}

export interface StreamedRequest {
  /** A text that is the user's only message in a chat, or, of a chat alone, its messages. */
  readonly prompt: string | readonly ChatMessage[];
  /** Asked for exactly: end tokens are ignored. */
  readonly outputTokens: number;
  readonly seed: number;
  /** From sending to the last byte. */
  readonly timeoutMs: number;
  /**
   * When it was to be sent, by the clock: its times count from then, also where the client itself was late, or those who
   * waited because the server was slow would look as if they had not. Undefined: when it is sent.
   */
  readonly dueMs?: number | undefined;
  /** Of the body, beside those that every request has. */
  readonly fields?: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Ends it with the error `cancelled`. */
  readonly signal?: AbortSignal;
  /** Whether the record shall have the content that was answered. */
  readonly keepAnswer?: boolean;
  /** After each chunk with output, with the number of such chunks so far. */
  readonly onOutput?: ((chunks: number) => void) | undefined;
}

export type RequestErrorKind =
  /** Status other than 200, such as `http_503`. */
  | `http_${number}`
  /** An error object inside the stream. */
  | "error_frame"
  /** The stream ended without a finish reason: a cut-off answer that looks like a whole one. */
  | "no_finish"
  /** Finished in good order, but without any output. */
  | "no_output"
  /** A frame that is not a JSON object, or longer than any real one. */
  | "malformed_frame"
  /** More frames than the tokens asked for can explain. */
  | "too_many_frames"
  /** Refused, reset, or closed before an answer. */
  | "connection"
  | "timeout"
  /** Given up on purpose. */
  | "cancelled";

export interface RequestError {
  readonly kind: RequestErrorKind;
  readonly message: string;
}

/** All times in ms of the benchmark's clock. */
export interface RequestRecord {
  readonly startMs: number;
  /** Last byte, or the moment of failure. */
  readonly endMs: number;
  /** Any data frame at all. */
  readonly firstChunkMs: number | undefined;
  /** Each frame with non-empty `choices`. */
  readonly choiceMs: readonly number[];
  /** Each frame with content, reasoning or tool-call text. */
  readonly outputMs: readonly number[];
  readonly promptTokens: number | undefined;
  readonly cachedTokens: number | undefined;
  /** As the server counts them; the number of output chunks where it does not. */
  readonly outputTokens: number;
  readonly countedBy: "usage" | "chunks";
  readonly finishReason: string | undefined;
  readonly error: RequestError | undefined;
  /** Of the request's `prediction`. */
  readonly acceptedTokens?: number | undefined;
  /** Its content without reasoning and calls, if that was to be kept. */
  readonly answer?: string | undefined;
  /** When a refusal says to try again. */
  readonly retryAfterMs?: number | undefined;
}

/** A token is one frame; role, finish and usage frames, and servers that split characters, come on top. */
const FRAMES_PER_TOKEN = 8;
const EXTRA_FRAMES = 64;
/** Far above a real chunk; a server that never ends its line must not fill the memory. */
const FRAME_CHARACTERS = 4 * 1024 * 1024;
/** Enough for any error message. */
const ERROR_BODY_BYTES = 16 * 1024;

/** How one request is sent; replaced in tests. Never rejects. */
export type SendOne = (target: Target, request: StreamedRequest) => Promise<RequestRecord>;

export function sendOver(clock: BenchClock): SendOne {
  return (target, request) => streamRequest(target, request, clock);
}

/** Sends the request and reads it to its end. Never rejects. */
export async function streamRequest(
  target: Target,
  request: StreamedRequest,
  clock: BenchClock,
): Promise<RequestRecord> {
  const body = JSON.stringify(requestBody(target, request));
  const abort = new AbortController();
  const stopTimer = clock.after(request.timeoutMs, () => abort.abort());
  const cancel = (): void => abort.abort();
  if (request.signal?.aborted === true) cancel();
  request.signal?.addEventListener("abort", cancel);
  const collector = new Collector(clock, request);
  try {
    const path = target.endpoint === "chat" ? "/v1/chat/completions" : "/v1/completions";
    const response = await fetch(target.url + path, {
      method: "POST",
      headers: { ...requestHeaders(target.apiKey), ...request.headers },
      body,
      signal: abort.signal,
    });
    if (response.status !== 200 || response.body === null) {
      const message = describeErrorBody(await readStart(response.body));
      const retryAfterMs = readRetryAfter(response.headers);
      return { ...collector.end({ kind: `http_${response.status}`, message }), retryAfterMs };
    }
    return await collector.read(response.body);
  } catch (error) {
    if (request.signal?.aborted === true)
      return collector.end({ kind: "cancelled", message: "Given up by the benchmark." });
    return collector.end(
      abort.signal.aborted
        ? { kind: "timeout", message: `Not finished after ${request.timeoutMs} ms.` }
        : { kind: "connection", message: describeConnectionError(error) },
    );
  } finally {
    stopTimer();
    request.signal?.removeEventListener("abort", cancel);
    // Frees the connection of a stream that was given up in the middle; nothing happens to a finished one.
    abort.abort();
  }
}

/**
 * Headers of every call to a server under test. Each has a connection of its own: a server may close one that was idle
 * while the other server's turn went on, just when it is used again, and that would be counted as a failure.
 */
export function requestHeaders(apiKey: string | undefined): Record<string, string> {
  const headers: Record<string, string> = { "content-type": "application/json", connection: "close" };
  if (apiKey !== undefined) headers["authorization"] = `Bearer ${apiKey}`;
  return headers;
}

/** `retry-after-ms`, which says it more exactly, else `retry-after` in seconds. */
function readRetryAfter(headers: Headers): number | undefined {
  const text = headers.get("retry-after-ms") ?? headers.get("retry-after");
  const value = Number(text);
  if (text === null || text.trim() === "" || !(value >= 0)) return undefined;
  return headers.has("retry-after-ms") ? value : value * 1000;
}

function requestBody(target: Target, request: StreamedRequest): unknown {
  const { prompt: asked } = request;
  const prompt =
    target.endpoint === "chat"
      ? { messages: typeof asked === "string" ? [{ role: "user", content: asked }] : asked }
      : { prompt: asked };
  return {
    model: target.model,
    ...prompt,
    max_tokens: request.outputTokens,
    ignore_eos: true,
    temperature: 0,
    seed: request.seed,
    stream: true,
    stream_options: { include_usage: true },
    ...request.fields,
  };
}

/** As much of a body as an error message needs. */
export async function readStart(body: AsyncIterable<Uint8Array> | null): Promise<string> {
  if (body === null) return "";
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of body) {
    parts.push(part);
    bytes += part.byteLength;
    if (bytes >= ERROR_BODY_BYTES) break;
  }
  return Buffer.concat(parts).subarray(0, ERROR_BODY_BYTES).toString("utf8");
}

/** Turns the bytes of one response into a record. */
export class Collector {
  readonly #clock: BenchClock;
  readonly #request: StreamedRequest;
  readonly #startMs: number;
  readonly #choiceMs: number[] = [];
  readonly #outputMs: number[] = [];
  #content = "";
  #firstChunkMs: number | undefined;
  #frames = 0;
  #finishReason: string | undefined;
  #usage: Usage | undefined;
  #done = false;
  #error: RequestError | undefined;

  /** The request's time starts now, or when it was due. */
  constructor(clock: BenchClock, request: StreamedRequest) {
    this.#clock = clock;
    this.#request = request;
    this.#startMs = request.dueMs ?? clock.nowMs();
  }

  /**
   * Reads until `[DONE]`, an error or the end of the body.
   * @throws Whatever the body throws when its connection breaks.
   */
  async read(body: AsyncIterable<Uint8Array>): Promise<RequestRecord> {
    const decoder = new TextDecoder();
    let arrivedMs = 0;
    const parser = createParser({
      maxBufferSize: FRAME_CHARACTERS,
      onEvent: (event) => this.#take(parsePayload(event.data), arrivedMs),
      onError: (error) => {
        if (error.type === "max-buffer-size-exceeded") this.#fail("malformed_frame", error.message);
      },
    });
    for await (const bytes of body) {
      arrivedMs = this.#clock.nowMs();
      parser.feed(decoder.decode(bytes, { stream: true }));
      if (this.#error !== undefined) break;
    }
    if (this.#finishReason === undefined) {
      this.#fail("no_finish", `${this.#frames} frames, then ${this.#done ? "[DONE]" : "the end"}.`);
    } else if (this.#outputMs.length === 0) {
      this.#fail("no_output", `Finish reason "${this.#finishReason}" without output.`);
    }
    return this.end(this.#error);
  }

  /** The record of what was seen so far. */
  end(error: RequestError | undefined): RequestRecord {
    const counted = this.#usage?.outputTokens;
    return {
      startMs: this.#startMs,
      endMs: this.#clock.nowMs(),
      firstChunkMs: this.#firstChunkMs,
      choiceMs: this.#choiceMs,
      outputMs: this.#outputMs,
      promptTokens: this.#usage?.promptTokens,
      cachedTokens: this.#usage?.cachedTokens,
      outputTokens: counted ?? this.#outputMs.length,
      countedBy: counted === undefined ? "chunks" : "usage",
      finishReason: this.#finishReason,
      error,
      acceptedTokens: this.#usage?.acceptedTokens,
      answer: this.#request.keepAnswer === true ? this.#content : undefined,
    };
  }

  #take(payload: Payload, arrivedMs: number): void {
    if (this.#error !== undefined || this.#done) return;
    if (payload.type === "done") {
      this.#done = true;
      return;
    }
    if (payload.type === "error") return this.#fail("error_frame", payload.message);
    if (payload.type === "malformed") return this.#fail("malformed_frame", payload.message);
    this.#frames += 1;
    const limit = this.#request.outputTokens * FRAMES_PER_TOKEN + EXTRA_FRAMES;
    if (this.#frames > limit) return this.#fail("too_many_frames", `More than ${limit} frames.`);
    this.#firstChunkMs ??= arrivedMs;
    this.#finishReason = payload.finishReason ?? this.#finishReason;
    this.#usage = payload.usage ?? this.#usage;
    if (payload.choices) this.#choiceMs.push(arrivedMs);
    if (payload.characters === 0) return;
    if (this.#request.keepAnswer === true) this.#content += payload.content;
    this.#outputMs.push(arrivedMs);
    this.#request.onOutput?.(this.#outputMs.length);
  }

  /** The first error is the one that counts. */
  #fail(kind: RequestErrorKind, message: string): void {
    this.#error ??= { kind, message };
  }
}
