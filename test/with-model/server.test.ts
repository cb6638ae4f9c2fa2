/** The built server with the pocket model: what it answers alone and busy, and what no client can break. */
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startServer } from "../support/server.ts";
import type { RunningServer, ServerLoad } from "../support/server.ts";
import { eventsOf, readStream } from "../support/sse-reader.ts";

interface PocketPrompt {
  readonly name: string;
  readonly messages?: OpenAI.ChatCompletionMessageParam[];
  readonly prompt?: string;
  readonly suffix?: string;
  readonly tools?: object[];
  readonly options: {
    readonly temperature: number;
    readonly max_tokens: number;
    readonly enable_thinking?: boolean;
  };
  readonly expected: string;
  readonly finish_reason: string;
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
}

/** What an answer is compared by. */
interface Answer {
  readonly reasoning: string;
  readonly text: string;
  readonly finish: string | null | undefined;
  readonly usage: readonly (number | undefined)[];
}

const prompts = readFileSync("test/fixtures/pocket-prompts.jsonl", "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as PocketPrompt)
  .filter(({ tools, suffix }) => tools === undefined && suffix === undefined);
/** Two tokens are so close there that the processor's kernels decide which one comes. */
const CLOSE_CALLS: ReadonlySet<string> = new Set(["story-long"]);
const chats = prompts.filter(({ name, messages }) => messages !== undefined && !CLOSE_CALLS.has(name));
const raws = prompts.filter(({ prompt }) => prompt !== undefined);

const SLOTS = 4;
const CONTEXT = 4096;
/** Longer than any test waits, so that whoever asks for it holds its slot until it leaves. */
const ENDLESS = { max_tokens: 4000, ignore_eos: true, stream: true, model: "pocket", prompt: "1, 2, 3," };

let server: RunningServer;
let client: OpenAI;

beforeAll(async () => {
  server = await startServer("--slots", String(SLOTS), "--context", String(CONTEXT));
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
});
afterAll(() => server.stop());

function expectedOf({ expected, finish_reason, prompt_tokens, completion_tokens }: PocketPrompt): Answer {
  const [, thought = "", answer = expected] = /^<think>\n(.*)\n<\/think>\n\n(.*)$/s.exec(expected) ?? [];
  const usage = [prompt_tokens, completion_tokens];
  return { reasoning: thought, text: answer, finish: finish_reason, usage };
}

function chatBody({ messages = [], options }: PocketPrompt) {
  const { enable_thinking, ...sampling } = options;
  const kwargs = enable_thinking === undefined ? {} : { chat_template_kwargs: { enable_thinking } };
  return { model: "pocket", messages, ...sampling, ...kwargs };
}

const usageOf = (usage: OpenAI.CompletionUsage | null | undefined): (number | undefined)[] => [
  usage?.prompt_tokens,
  usage?.completion_tokens,
];

/** The official client's types do not know the field. */
const reasoningOf = (part: { readonly reasoning_content?: unknown } | object | undefined): string =>
  part !== undefined && "reasoning_content" in part ? String(part.reasoning_content) : "";

async function ask(prompt: PocketPrompt): Promise<Answer> {
  const { choices, usage } = await client.chat.completions.create(chatBody(prompt));
  const choice = choices[0];
  return {
    reasoning: reasoningOf(choice?.message),
    text: choice?.message.content ?? "",
    finish: choice?.finish_reason,
    usage: usageOf(usage),
  };
}

async function askStreaming(prompt: PocketPrompt): Promise<Answer> {
  const stream = await client.chat.completions.create({
    ...chatBody(prompt),
    stream: true,
    stream_options: { include_usage: true },
  });
  let answer: Answer = { reasoning: "", text: "", finish: undefined, usage: [] };
  for await (const { choices, usage } of stream) {
    const choice = choices[0];
    answer = {
      reasoning: answer.reasoning + reasoningOf(choice?.delta),
      text: answer.text + (choice?.delta.content ?? ""),
      finish: choice?.finish_reason ?? answer.finish,
      usage: usage === null || usage === undefined ? answer.usage : usageOf(usage),
    };
  }
  return answer;
}

/** Runs `work` for each item, at most so many at a time, results in the items' order. */
async function atMost<T, R>(limit: number, items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries();
  const worker = async (): Promise<void> => {
    for (const [i, item] of queue) results[i] = await work(item);
  };
  await Promise.all(Array.from({ length: limit }, worker));
  return results;
}

/** Streams that hold slots until they are told to leave. */
async function occupySlots(count: number): Promise<(() => Promise<void>)[]> {
  const leave: (() => Promise<void>)[] = [];
  for (let i = 0; i < count; i++) {
    const response = await server.post("/v1/completions", ENDLESS);
    expect(response.status).toBe(200);
    // The response stays referenced: fetch hangs up for one that is garbage.
    leave.push(async () => response.body?.cancel());
  }
  await server.loadThat("occupied slots", ({ running }) => running === count);
  return leave;
}

const isIdle = ({ busySlots, running, waiting }: ServerLoad): boolean => busySlots + running + waiting === 0;

const grown = (key: string, before: ServerLoad, after: ServerLoad): number =>
  (after.requests[key] ?? 0) - (before.requests[key] ?? 0);

describe("known answers", () => {
  test("there are prompts to ask", () => {
    expect(chats.length).toBeGreaterThan(50);
    expect(raws.length).toBeGreaterThan(3);
  });

  test.each(chats)("$name is answered exactly", async (prompt) => {
    expect(await ask(prompt)).toEqual(expectedOf(prompt));
  });

  test("streamed eight at a time, all answers are the same", async () => {
    expect(await atMost(8, chats, askStreaming)).toEqual(chats.map(expectedOf));
  });

  test.each(raws)("$name is continued exactly, whole and streamed", async (prompt) => {
    const body = { model: "pocket", prompt: prompt.prompt ?? "", ...prompt.options };
    const whole = await client.completions.create(body);
    expect({
      reasoning: "",
      text: whole.choices[0]?.text,
      finish: whole.choices[0]?.finish_reason,
      usage: usageOf(whole.usage),
    }).toEqual(expectedOf(prompt));
    const streamed = await server.post("/v1/completions", {
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    expect(await readStream(eventsOf(streamed))).toEqual({
      text: prompt.expected,
      finishReason: prompt.finish_reason,
      completionTokens: prompt.completion_tokens,
      done: true,
    });
  });
});

describe("slots and queue", () => {
  test("with one free slot, waiting requests get their first tokens in the order of their arrival", async () => {
    const leave = await occupySlots(SLOTS);
    const order: number[] = [];
    const clients: Promise<unknown>[] = [];
    for (let i = 0; i < 6; i++) clients.push((await queuedClient(i, order)).finished);
    await leave[0]?.();
    await Promise.all(clients);
    for (const end of leave) await end();
    expect(order).toEqual([0, 1, 2, 3, 4, 5]);
    await server.loadThat("an idle server", isIdle);
  });

  test("sixteen clients on four slots all finish, none far out of turn, and the numbers agree", async () => {
    const before = await server.loadThat("an idle server", isIdle);
    const leave = await occupySlots(SLOTS);
    const order: number[] = [];
    const clients: ReturnType<typeof readStream>[] = [];
    for (let i = 0; i < 16; i++) clients.push((await queuedClient(i, order)).finished);
    expect(await server.load()).toMatchObject({ busySlots: 4, running: 4, waiting: 16 });
    for (const end of leave) await end();
    for (const [i, answer] of (await Promise.all(clients)).entries()) {
      expect(answer).toMatchObject({ finishReason: "length", completionTokens: 20 + i, done: true });
    }
    // At most three others are in a slot without a first token, and who they are depends on their prompts.
    const turns = order.map((arrival, rank) => Math.abs(arrival - rank));
    expect(turns).toHaveLength(16);
    expect(Math.max(...turns)).toBeLessThan(SLOTS);
    const after = await server.loadThat("an idle server", isIdle);
    expect(grown("completions/ok", before, after)).toBe(16);
    expect(grown("completions/cancelled", before, after)).toBe(4);
    expect(after.requests["completions/server_error"]).toBeUndefined();
  });

  /** Resolves when the request has been accepted; notes the number when its first token comes. */
  async function queuedClient(i: number, order: number[]) {
    const response = await server.post("/v1/completions", {
      ...ENDLESS,
      prompt: `Client ${i} counts: 1, 2,`,
      max_tokens: 20 + i,
      stream_options: { include_usage: true },
    });
    expect(response.status).toBe(200);
    async function* noted(): AsyncGenerator<string> {
      let first = true;
      for await (const event of eventsOf(response)) {
        if (first) order.push(i);
        first = false;
        yield event;
      }
    }
    return { finished: readStream(noted()) };
  }

  test("the same prompt again is taken from the cache but for its last token", async () => {
    const prompt = Array.from({ length: 600 }, (_, i) => 300 + ((i * 7) % 1700));
    const cached = async (): Promise<unknown> => {
      const { usage } = await client.completions.create({ model: "pocket", prompt, max_tokens: 4 });
      return [usage?.prompt_tokens, usage?.prompt_tokens_details?.cached_tokens];
    };
    expect(await cached()).toEqual([600, 0]);
    expect(await cached()).toEqual([600, 599]);
  });

  test("sixty clients that leave at any point leave nothing behind", async () => {
    let seed = 11;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
      return (seed >>> 8) % below;
    };
    const before = await server.loadThat("an idle server", isIdle);
    const leavers = Array.from({ length: 60 }, (_, i) => ({ kind: i % 3, when: random(20) }));
    await Promise.all(
      leavers.map(({ kind, when }) => (kind === 0 ? leaveMidway(when) : leaveEarly(kind, when))),
    );
    const after = await server.loadThat("an idle server", isIdle);
    // A request that the server never read is counted nowhere; those that got events were read.
    expect(grown("completions/cancelled", before, after)).toBeGreaterThanOrEqual(20);
    expect(grown("completions/ok", before, after)).toBe(0);
    const hello = chats.find(({ name }) => name === "hello");
    expect(hello && (await ask(hello))).toMatchObject({ text: "Hello! How can I help you?" });
  });

  async function leaveMidway(events: number): Promise<void> {
    const controller = new AbortController();
    const response = await server.post("/v1/completions", ENDLESS, controller.signal);
    let seen = 0;
    for await (const event of eventsOf(response)) {
      expect(JSON.parse(event)).toHaveProperty("choices");
      if (seen++ === events) break;
    }
    controller.abort();
  }

  /** Before the headers of a stream, or while a whole answer is computed; other answers are the clock. */
  async function leaveEarly(kind: number, answers: number): Promise<void> {
    const controller = new AbortController();
    const body = { ...ENDLESS, stream: kind === 1 };
    const whole = server.post("/v1/completions", body, controller.signal).then((r) => r.text());
    const failure = whole.then(
      () => undefined,
      (error: unknown) => error,
    );
    for (let i = 0; i < answers; i++) await (await fetch(`${server.url}/livez`)).text();
    controller.abort();
    expect(await failure).toMatchObject({ name: "AbortError" });
  }
});

describe("what a client gets wrong", () => {
  const NOT_JSON = { type: "invalid_request_error", param: null, code: null };
  const message = { role: "user", content: "hi" };
  const chat = (fields: object): string =>
    JSON.stringify({ model: "pocket", messages: [message], ...fields });
  const post = { method: "POST", headers: { "content-type": "application/json" } };
  const path = "/v1/chat/completions";

  const mistakes: [string, string, RequestInit, number, object][] = [
    ["broken JSON", path, { ...post, body: '{"model":' }, 400, NOT_JSON],
    ["the literal NaN", path, { ...post, body: chat({ seed: 5 }).replace("5", "NaN") }, 400, NOT_JSON],
    [
      "a number beyond all doubles",
      path,
      { ...post, body: chat({ temperature: 7 }).replace("7", "1e400") },
      400,
      { param: "temperature", code: "invalid_type" },
    ],
    [
      "a text for a number",
      path,
      { ...post, body: chat({ top_p: "1" }) },
      400,
      { param: "top_p", code: "invalid_type" },
    ],
    [
      "a number for the messages",
      path,
      { ...post, body: chat({ messages: 3 }) },
      400,
      { param: "messages", code: "invalid_type" },
    ],
    [
      "an unknown model",
      path,
      { ...post, body: chat({ model: "nosuch" }) },
      404,
      { param: null, code: "model_not_found" },
    ],
    [
      "a chat that is too long",
      path,
      { ...post, body: chat({ messages: [{ role: "user", content: "hello ".repeat(5000) }] }) },
      400,
      { param: "messages", code: "context_length_exceeded", n_ctx: CONTEXT, n_prompt_tokens: 5009 },
    ],
    [
      "a prompt that is too long",
      "/v1/completions",
      { ...post, body: JSON.stringify({ model: "pocket", prompt: Array.from({ length: 5000 }, () => 300) }) },
      400,
      {
        message:
          "This model's maximum context length is 4096 tokens. However, your prompt resulted in 5000 tokens. " +
          "Please reduce the length of the prompt.",
        type: "invalid_request_error",
        param: "prompt",
        code: "context_length_exceeded",
      },
    ],
    [
      "another content type",
      path,
      { ...post, headers: { "content-type": "text/plain" }, body: chat({}) },
      415,
      { param: null, code: "unsupported_media_type" },
    ],
    ["a wrong path", "/v1/nosuch", post, 404, { param: null, code: null }],
    ["a wrong method", path, {}, 405, { param: null, code: null }],
  ];

  test("each mistake has its own answer, and a stream beside them stays whole", async () => {
    const stream = { ...ENDLESS, max_tokens: 1000, temperature: 0, stream_options: { include_usage: true } };
    const alone = await readStream(eventsOf(await server.post("/v1/completions", stream)));
    const beside = readStream(eventsOf(await server.post("/v1/completions", stream)));
    for (const [name, url, init, status, error] of mistakes) {
      const response = await fetch(server.url + url, init);
      expect([name, response.status, await response.json()]).toEqual([
        name,
        status,
        { error: expect.objectContaining({ type: "invalid_request_error", ...error }) },
      ]);
    }
    expect(await sendUnasked(bodyHead({ "content-length": 9 * 2 ** 20 }))).toMatch(/^HTTP\/1\.1 413 /);
    const tooMuch = Buffer.concat([
      Buffer.from(`${bodyHead({ "transfer-encoding": "chunked" })}${(8 * 2 ** 20 + 1).toString(16)}\r\n`),
      Buffer.alloc(8 * 2 ** 20 + 1, " "),
    ]);
    expect(await sendUnasked(tooMuch)).toContain('"code":"request_too_large"');
    // A client that has sent all of a body far too large still hears why it was refused.
    const huge = JSON.stringify({ model: "pocket", prompt: " ".repeat(20 * 2 ** 20) });
    const refused = await fetch(`${server.url}/v1/completions`, {
      method: "POST",
      body: huge,
      headers: { "content-type": "application/json" },
    });
    expect([refused.status, await refused.json()]).toMatchObject([
      413,
      { error: { code: "request_too_large" } },
    ]);
    expect(alone).toMatchObject({ finishReason: "length", completionTokens: 1000, done: true });
    expect(await beside).toEqual(alone);
  });

  function bodyHead(headers: Readonly<Record<string, string | number>>): string {
    const lines = Object.entries({ host: "localhost", "content-type": "application/json", ...headers });
    return `POST ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
  }

  /** Everything the server says until it closes; fetch would not read an answer to a body it still sends. */
  function sendUnasked(bytes: string | Uint8Array): Promise<string> {
    return new Promise((resolve, reject) => {
      let said = "";
      const socket = connect(Number(new URL(server.url).port), "127.0.0.1", () => socket.write(bytes));
      socket.on("data", (data) => (said += String(data)));
      socket.on("error", reject);
      socket.on("close", () => resolve(said));
    });
  }
});

test("with --deterministic, requests answer alone and all at once with the same texts", async () => {
  const deterministic = await startServer("--slots", String(SLOTS), "--deterministic");
  try {
    const animals = "fox cat dog bear rabbit owl hen mouse duck frog cow horse".split(" ");
    const bodies = animals.map((animal, i) => ({
      model: "pocket",
      prompt: `${"It was a shy one. ".repeat(i * 3)}Once upon a time there was a ${animal} named`,
      max_tokens: 50,
      temperature: i % 3 === 0 ? 0 : 0.8,
      seed: 100 + i,
    }));
    // Short ones at the highest temperature are near to another token most of the time.
    for (let seed = 1; seed <= 6; seed++)
      bodies.push({
        model: "pocket",
        prompt: `count on from ${seed}:`,
        max_tokens: 200,
        temperature: 1,
        seed,
      });
    const textOf = async (body: object): Promise<string | undefined> => {
      const response = await deterministic.post("/v1/completions", body);
      return ((await response.json()) as OpenAI.Completion).choices[0]?.text;
    };
    const alone = await atMost(1, bodies, textOf);
    expect(new Set(alone).size).toBeGreaterThan(6);
    expect(await Promise.all(bodies.map(textOf))).toEqual(alone);
  } finally {
    await deterministic.stop();
  }
});
