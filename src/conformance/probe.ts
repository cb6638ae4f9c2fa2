/** Plain HTTP questions to a server under test, and its answers read with suspicion. */
import { isObject } from "../http/json.ts";
import { CheckFailure, must, mustBe, show } from "./check.ts";
import { jsonObject } from "./json-text.ts";
import type { Json } from "./json-text.ts";

/** Longer than any answer that a check asks for takes on a slow machine; the first may wait for a model to load. */
const TIMEOUT_MS = 120_000;
/** Greedy, so that the same question has the same answer; short, so that a slow server is soon done. */
const DEFAULTS = { temperature: 0, max_tokens: 32 } as const;

export interface ProbeTarget {
  /** Without `/v1` and without a slash at the end. */
  readonly url: string;
  readonly model: string;
  readonly apiKey: string | undefined;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

export class Probe {
  readonly model: string;
  readonly #target: ProbeTarget;

  constructor(target: ProbeTarget) {
    this.#target = target;
    this.model = target.model;
  }

  /** @param path From the first slash on; `/v1` belongs to it. */
  async request(path: string, init: RequestInit = {}): Promise<Answer> {
    const headers = new Headers(init.headers);
    const { url, apiKey } = this.#target;
    if (apiKey !== undefined && init.method !== "OPTIONS") headers.set("authorization", `Bearer ${apiKey}`);
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetch(url + path, { ...init, headers, signal });
    return { status: response.status, headers: response.headers, text: await response.text() };
  }

  post(path: string, body: unknown): Promise<Answer> {
    return this.request(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  }

  /** A chat request about `Hello` with the fields on top. */
  chat(fields: Json = {}): Promise<Answer> {
    const messages = [{ role: "user", content: "Hello" }];
    return this.post("/v1/chat/completions", { model: this.model, messages, ...DEFAULTS, ...fields });
  }

  /** The body of a chat request that must succeed. */
  async chatJson(fields: Json = {}): Promise<Json> {
    return okJson(await this.chat(fields));
  }

  /** The bytes of a stream that must begin. */
  async chatStream(fields: Json = {}): Promise<string> {
    return okStream(await this.chat({ ...fields, stream: true }));
  }

  /** A legacy completion. */
  complete(fields: Json = {}): Promise<Answer> {
    return this.post("/v1/completions", { model: this.model, prompt: "1, 2, 3,", ...DEFAULTS, ...fields });
  }

  respond(fields: Json = {}): Promise<Answer> {
    return this.post("/v1/responses", { model: this.model, input: "Hello", temperature: 0, ...fields });
  }
}

/** @throws {CheckFailure} unless the answer is a 200 with a JSON object. */
export function okJson({ status, headers, text }: Answer): Json {
  must(status === 200, `status ${status}: ${errorText(text)}`);
  const type = headers.get("content-type") ?? "absent";
  must(/^application\/json\b/.test(type), `content-type is ${type} instead of application/json`);
  const body = jsonObject(text);
  must(body !== undefined, `no JSON object: ${show(text)}`);
  // A response object has the key always: null unless it failed.
  const isResponse = body["object"] === "response" && body["error"] === null;
  must(isResponse || !Object.hasOwn(body, "error"), "a key named error in an answer that is none");
  return body;
}

/** @throws {CheckFailure} unless the answer is an event stream. */
export function okStream({ status, headers, text }: Answer): string {
  must(status === 200, `status ${status}: ${errorText(text)}`);
  const type = headers.get("content-type") ?? "absent";
  must(type.startsWith("text/event-stream"), `content-type is ${type} instead of text/event-stream`);
  return text;
}

/** The message of an error body, else the body. */
function errorText(text: string): string {
  const error = jsonObject(text)?.["error"];
  const message = isObject(error) ? error["message"] : undefined;
  return typeof message === "string" ? message.slice(0, 200) : show(text);
}

/**
 * The error object of a refusal. That its four keys are all there is a check of its own.
 * @throws {CheckFailure} unless the answer has the status and OpenAI's error object.
 */
export function mustBeError({ status, headers, text }: Answer, expected: number): Json {
  mustBe("status", status, expected);
  const type = headers.get("content-type") ?? "absent";
  must(/^application\/json\b/.test(type), `content-type is ${type} instead of application/json`);
  const error = jsonObject(text)?.["error"];
  if (!isObject(error)) throw new CheckFailure(`no error object: ${show(text)}`);
  must(typeof error["message"] === "string" && error["message"] !== "", "error.message is no text");
  must(typeof error["type"] === "string", `error.type is ${show(error["type"])}`);
  return error;
}

/** The element of an array inside a body. @throws {CheckFailure} when there is none. */
export function itemOf(body: Json, key: string, index = 0): Json {
  const list = body[key];
  must(Array.isArray(list), `${key} is ${show(list)}, no array`);
  const item: unknown = (list as unknown[])[index];
  if (!isObject(item)) throw new CheckFailure(`${key}[${index}] is ${show(item)}`);
  return item;
}

/** An object inside an object. @throws {CheckFailure} when it is none. */
export function objectOf(body: Json, key: string): Json {
  const value = body[key];
  if (!isObject(value)) throw new CheckFailure(`${key} is ${show(value)}, no object`);
  return value;
}

/** A string inside an object. @throws {CheckFailure} when it is none. */
export function stringOf(body: Json, key: string): string {
  const value = body[key];
  must(typeof value === "string", `${key} is ${show(value)}, no string`);
  return value;
}

/** The message of the first choice. */
export function messageOf(body: Json): Json {
  return objectOf(itemOf(body, "choices"), "message");
}

/** The text of the first choice. */
export function contentOf(body: Json): string {
  return stringOf(messageOf(body), "content");
}

/** A value parsed from text. @throws {CheckFailure} when it is no JSON. */
export function jsonValue(what: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new CheckFailure(`${what} is no JSON: ${show(text)}`);
  }
}
