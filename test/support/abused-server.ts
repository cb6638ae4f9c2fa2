/**
 * A whole server in this process, to be abused: real sockets, the real scheduler over the fake model, engines that die
 * when told to; and a stream beside every abuse, which must not notice.
 */
import { once } from "node:events";
import { request } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { expect } from "vitest";
import type { BatchEntry } from "../../engine/backend.ts";
import { createEngine } from "../../engine/engine.ts";
import { FakeBackend, fakeOutput } from "../../engine/fake/backend.ts";
import type { FakeOptions } from "../../engine/fake/backend.ts";
import { hostEngine } from "../../engine/process/in-process.ts";
import { ChatTemplate } from "../../models/chat-template.ts";
import { TemplateRenderer } from "../../models/chat-template-renderer.ts";
import { DEFAULT_LIMITS } from "../../src/config/limits.ts";
import type { AppConfig } from "../../src/deps.ts";
import { createLog } from "../../src/log.ts";
import { ModelHost } from "../../src/model-host.ts";
import { HttpServer, ServerLifecycle } from "../../src/server.ts";
import { LOAD_OPTIONS } from "./engine.ts";
import { MortalEngine } from "./mortal-engines.ts";
import { createTestApp } from "./test-app.ts";

export const ABUSED_MODEL = "fake";
const CANARY = "a canary";
const CANARY_TOKENS = 64;

/** What waits for a condition gives up after this time; it only ever tells that something hangs. */
const DEADLINE = { timeout: 20_000, interval: 2 };

export interface AbusedOptions {
  readonly sizes?: FakeOptions;
  readonly maxQueued?: number;
  readonly config?: Partial<AppConfig>;
  /** Called before each call of any engine, but not while one loads. */
  readonly onRun?: (entries: readonly BatchEntry[]) => Promise<void> | void;
  /** Instead of the fake model's own. */
  readonly chatTemplate?: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

export interface ErrorJson {
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;
}

export type AbusedServer = Awaited<ReturnType<typeof abusedServer>>;

export async function abusedServer(options: AbusedOptions = {}) {
  const engines: MortalEngine[] = [];
  const renderer = new TemplateRenderer();
  const silent = createLog({ level: "silent", format: "json" });
  const backends: FakeBackend[] = [];
  const host: ModelHost = new ModelHost(
    [{ id: ABUSED_MODEL, path: "none", aliases: [], createdSeconds: 0, source: "file" }],
    {
      startEngine() {
        const backend = new FakeBackend({
          contextTokens: 256,
          batchTokens: 64,
          ...options.sizes,
          onRun: async (entries) => {
            if (host.served[0]?.state === "ready") await options.onRun?.(entries);
            // A real call takes time, in which sockets and messages have their turn.
            await new Promise((resolve) => setImmediate(resolve));
          },
        });
        const engine = new MortalEngine(hostEngine((emit) => createEngine(async () => backend, emit)));
        engines.push(engine);
        backends.push(backend);
        return engine;
      },
      checkFiles: () => undefined,
      loadOptions: () => ({ ...LOAD_OPTIONS, maxQueued: options.maxQueued ?? LOAD_OPTIONS.maxQueued }),
      createTemplate(_model, facts, table) {
        const source = options.chatTemplate ?? facts.chatTemplate ?? "";
        return new ChatTemplate({ source, table, bosText: "", eosText: "", renderer });
      },
      onStep: (model, report) => app.deps.metrics.observeStep(model, report),
      onTrouble: (trouble) => app.deps.metrics.countTrouble(trouble),
      stuckAfterMs: 30_000,
      log: silent,
      nowMs: () => performance.now(),
      wait: () => Promise.resolve(),
    },
  );
  const app = createTestApp({ models: host, ...(options.config && { config: options.config }) });
  const server = new HttpServer(app.app, new ServerLifecycle(), {
    writeTimeoutMs: 60_000,
    limits: DEFAULT_LIMITS,
  });
  await host.start();
  const port = await server.listen({ host: "127.0.0.1", port: 0 });
  const sockets = socketCount();

  const post = (path: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
    send(port, "POST", path, {
      headers: { "content-type": "application/json", ...headers },
      body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
    });
  const get = (path: string, method = "GET", headers: Readonly<Record<string, string>> = {}) =>
    send(port, method, path, { headers });
  const complete = (prompt: string, fields: object = {}) =>
    post("/v1/completions", { model: ABUSED_MODEL, prompt, max_tokens: 8, temperature: 0, ...fields });
  const chat = (fields: object = {}) =>
    post("/v1/chat/completions", {
      model: ABUSED_MODEL,
      messages: [{ role: "user", content: "hi" }],
      max_tokens: 4,
      temperature: 0,
      ...fields,
    });
  const state = async () => ({
    busy: (JSON.parse((await get("/slots")).text) as { is_processing: boolean }[]).filter(
      ({ is_processing }) => is_processing,
    ).length,
    waiting: Number(/^weft_requests_waiting\{.*\} (\d+)$/m.exec((await get("/metrics")).text)?.[1]),
  });

  /** Resolves when nothing is left of what was done: no busy slot, nothing waiting, no answer and no socket open. */
  async function quiet(): Promise<void> {
    const idle = { busy: 0, waiting: 0, answers: 0 };
    await expect
      .poll(async () => ({ ...(await state()), answers: server.openResponses }), DEADLINE)
      .toEqual(idle);
    // Both ends of the questions that were just asked close a little later.
    await expect.poll(() => socketCount() - sockets, DEADLINE).toBe(0);
    expect(host.served[0]?.loaded?.engine.openRequests ?? 0).toBe(0);
  }

  return {
    port,
    host,
    log: app.log,
    engine: (): MortalEngine => engines.at(-1) ?? fail("No engine was started."),
    post,
    get,
    complete,
    chat,
    state,
    quiet,
    /** Lets go of what is kept for tests to look at, which grows with every request. */
    forget(): void {
      app.log.length = 0;
      engines.splice(0, engines.length - 1);
      backends.splice(0, backends.length - 1);
      for (const { commands } of engines) commands.length = 0;
      for (const { calls } of backends) calls.length = 0;
    },
    live: app.deps.live,
    /** A metric's value; 0 when it was never counted. */
    async metric(name: string): Promise<number> {
      const lines = (await get("/metrics")).text.split("\n");
      return Number(lines.find((line) => line.startsWith(`${name} `))?.slice(name.length + 1) ?? 0);
    },
    /**
     * Runs an abuse while a stream goes on, again and again until the abuse is over. Each time it must be what it is
     * alone, and nothing may be left of the abuse afterwards.
     */
    async beside<T>(abuse: () => Promise<T>): Promise<T> {
      const over = new AbortController();
      const expected = canaryTruth();
      const canary = async (): Promise<void> => {
        do {
          const answer = await complete(CANARY, { max_tokens: CANARY_TOKENS, stream: true });
          expect(textOf(answer.text)).toBe(expected);
        } while (!over.signal.aborted);
      };
      const canaries = canary();
      // An abuse that fails is told at once: what it leaves behind may keep the stream from its end.
      canaries.catch(() => undefined);
      const result = await abuse().finally(() => over.abort());
      await canaries;
      await quiet();
      return result;
    },
    async close(): Promise<void> {
      await host.stop();
      await server.close(0);
      await renderer.close();
    },
  };
}

/** What the fake model says to a prompt of plain text. */
export function fakeText(prompt: string, count: number): string {
  return Buffer.from(fakeOutput([...Buffer.from(prompt)], count)).toString();
}

function canaryTruth(): string {
  return `${fakeText(CANARY, CANARY_TOKENS)} length [DONE]`;
}

/** The text of a completion's stream, how it ended, and its last event. */
export function textOf(stream: string): string {
  const texts = Array.from(stream.matchAll(/"text":"([^"]*)"/g), ([, text]) => text);
  const reason = /"finish_reason":"(\w+)"/.exec(stream)?.[1];
  return `${texts.join("")} ${reason} ${stream.endsWith("data: [DONE]\n\n") ? "[DONE]" : "(no end)"}`;
}

/** The error of an answer, which must be a whole envelope that tells nothing of the server's inside. */
export function errorOf(answer: Answer, status: number): ErrorJson {
  expect(`${answer.status} ${answer.status === status ? "" : answer.text}`).toBe(`${status} `);
  expect(answer.headers["content-type"]).toBe("application/json");
  const { error } = JSON.parse(answer.text) as { error: ErrorJson };
  expect(Object.keys(error).slice(0, 4)).toEqual(["message", "type", "param", "code"]);
  expect(error.message).not.toMatch(INSIDE);
  return error;
}

/** Stack frames, paths of this machine, names of native code. */
const INSIDE = /\n\s+at |node_modules|file:\/\/|\/src\/|\.ts\b|llama|ggml/i;

export interface SendOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

/** One exchange on a connection of its own. */
export async function send(
  port: number,
  method: string,
  path: string,
  { headers = {}, body }: SendOptions = {},
): Promise<Answer> {
  const sent = request({ port, host: "127.0.0.1", method, path, headers, agent: false });
  sent.end(body);
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  let text = "";
  response.setEncoding("utf8");
  for await (const piece of response) text += String(piece);
  if (!sent.closed) await once(sent, "close");
  return { status: response.statusCode ?? 0, headers: response.headers, text };
}

export async function openSocket(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return socket;
}

/** All that a server says to these bytes, until it closes the connection. */
export async function rawExchange(port: number, bytes: string | Uint8Array): Promise<string> {
  const socket = await openSocket(port);
  let text = "";
  socket.setEncoding("latin1").on("data", (piece) => (text += String(piece)));
  const closed = once(socket, "close");
  socket.write(bytes);
  await closed;
  return text;
}

/** A POST as bytes; headers may be anything at all. */
export function rawPost(body: string, headers = "", path = "/v1/completions"): string {
  return (
    `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${headers}` +
    `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}

function socketCount(): number {
  return process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length;
}

function fail(message: string): never {
  throw new Error(message);
}
