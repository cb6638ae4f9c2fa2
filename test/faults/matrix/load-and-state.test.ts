/** Constraints that leave nothing, texts that look like ends, failing calls, wrong sizes and lost promises: rows 63 to 96 of the fault matrix. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterEach, expect, test } from "vitest";
import type { BatchEntry } from "../../../engine/backend.ts";
import { EngineError } from "../../../engine/errors.ts";
import { packageRoot } from "../../../models/package-root.ts";
import { loadConfig } from "../../../src/config/load-config.ts";
import { abusedServer, errorOf, fakeText } from "../../support/abused-server.ts";
import type { AbusedOptions, AbusedServer } from "../../support/abused-server.ts";
import { createTestApp } from "../../support/test-app.ts";
import { byteIds, EOS, idsOf } from "../../support/tiny-vocabulary.ts";

const servers: AbusedServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function start(options: AbusedOptions = {}): Promise<AbusedServer> {
  const server = await abusedServer(options);
  servers.push(server);
  return server;
}

/** What comes in a stream's events, `[DONE]` left out. */
function eventsOf(stream: string): Record<string, unknown>[] {
  return stream
    .split("\n\n")
    .filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice("data: ".length)) as Record<string, unknown>);
}

const NOTHING_LEFT = "The grammar and the banned tokens of this request leave the model nothing to generate.";

test.each([true, false])(
  "row 63: a grammar that comes to a dead end fails its request in words (stream: %s)",
  async (stream) => {
    const server = await start({
      sizes: { allowedTokens: (_grammar, output) => (output.length === 2 ? [] : undefined) },
    });
    const answer = await server.beside(() => server.complete("stuck", { grammar: 'root ::= "a"', stream }));
    if (stream) {
      expect(answer.status).toBe(200);
      expect(eventsOf(answer.text).at(-1)).toMatchObject({ error: { message: NOTHING_LEFT } });
      expect(answer.text).not.toMatch(/"finish_reason":"/);
      expect(answer.text.endsWith("data: [DONE]\n\n")).toBe(true);
    } else expect(errorOf(answer, 400)).toMatchObject({ message: NOTHING_LEFT, param: "grammar" });
  },
);

test("row 64: a grammar whose only beginning is banned is a 400 about the ban", async () => {
  const server = await start({ sizes: { allowedTokens: () => [] } });
  const fields = { grammar: 'root ::= "a"', logit_bias: { 97: -100 }, stream: true };
  const answer = await server.beside(() => server.complete("banned", fields));
  expect(errorOf(answer, 400)).toMatchObject({ message: NOTHING_LEFT, param: "logit_bias" });
});

test.each([{ ignore_eos: true }, { min_tokens: 5 }])(
  "row 65: a grammar, which ends where it is complete, is refused beside %j",
  async (fields) => {
    const server = await start();
    const [param = ""] = Object.keys(fields);
    const answer = await server.complete("endless", { grammar: 'root ::= "aa"', ...fields });
    expect(errorOf(answer, 400)).toMatchObject({
      message: `'${param}' cannot be used together with 'grammar'.`,
      param,
    });
  },
);

test("row 71: a JSON answer that is nothing but spaces ends at its limit", async () => {
  const server = await start({ sizes: { allowedTokens: () => [32] } });
  const response_format = { type: "json_object" };
  const answer = await server.beside(() => server.chat({ response_format, max_tokens: 20 }));
  expect(answer.status).toBe(200);
  expect(JSON.parse(answer.text)).toMatchObject({
    choices: [{ finish_reason: "length" }],
    usage: { completion_tokens: 20 },
  });
});

test("row 77: what looks like the end of a stream in a text is text", async () => {
  const { engine, chat } = createTestApp();
  const said = "data: [DONE]\n\ndata: {}\r\n\r\nevent: error\u2028\u2029\n\nid: 1\n:";
  const steps = idsOf(said).map((token) => ({ tokens: [token] }));
  const finish = { reason: "stop", stopToken: EOS } as const;
  engine.script = { kind: "answer", steps: [...steps, { tokens: [EOS], finish }] };
  const stream = await (await chat({ stream: true })).text();
  const frames = stream.split("\n\n");
  expect(frames.slice(-2)).toEqual(["data: [DONE]", ""]);
  const chunks = frames.slice(0, -2).map((frame) => {
    expect(frame).toMatch(/^data: \{[^\r\n]*\}$/);
    return JSON.parse(frame.slice("data: ".length)) as { choices: { delta: { content?: string } }[] };
  });
  expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe(said);
});

test("row 79: a character that the limit cuts is one U+FFFD at the end, and its bytes are in the log probabilities", async () => {
  const { engine, chat } = createTestApp();
  const tokens = byteIds("aé😀").slice(0, -1);
  engine.script = {
    kind: "answer",
    steps: tokens.map((token, i) => ({
      tokens: [token],
      logprobs: [{ logprob: -1, top: [] }],
      ...(i === tokens.length - 1 ? { finish: { reason: "length" as const, stopToken: undefined } } : {}),
    })),
  };
  const events = eventsOf(await (await chat({ stream: true, logprobs: true })).text()) as {
    choices: {
      delta: { content?: string };
      logprobs: { content: { bytes: number[] }[] } | null;
      finish_reason: string | null;
    }[];
  }[];
  const choices = events.flatMap((event) => event.choices);
  expect(choices.map(({ delta }) => delta.content ?? "").join("")).toBe("aé\ufffd");
  expect(choices.at(-1)?.finish_reason).toBe("length");
  const bytes = choices.flatMap(({ logprobs }) => logprobs?.content.flatMap((token) => token.bytes) ?? []);
  expect(bytes).toEqual([...Buffer.from("aé😀").subarray(0, -1)]);
});

const OTHERS = ["one", "two", "three"];

test("row 85: a call that finds no room ends the one request that it is about, and no word of the inside is told", async () => {
  const isDoomed = (entries: readonly BatchEntry[]): boolean =>
    entries.some(({ tokens }) => tokens.includes("Z".charCodeAt(0)));
  const server = await start({
    onRun: (entries) => {
      if (isDoomed(entries)) throw new EngineError("decode_failed", "llama: could not find a KV slot");
    },
  });
  const [doomed, ...others] = await server.beside(() =>
    Promise.all([server.complete("Z"), ...OTHERS.map((prompt) => server.complete(prompt))]),
  );
  expect(errorOf(doomed, 500).message).toBe("The model's engine failed to compute this request.");
  const texts = others.map(
    ({ text }) => (JSON.parse(text) as { choices: { text: string }[] }).choices[0]?.text,
  );
  expect(texts).toEqual(OTHERS.map((prompt) => fakeText(prompt, 8)));
});

test.each(["0", "-1", "15", "2147483648", "1e3", "many"])(
  "row 92: a context of %s is refused in words",
  (context) => {
    expect(() => loadConfig({ flags: { context }, env: {}, file: undefined })).toThrow(/--context/);
  },
);

test("row 93: the delay of the event loop is told", async () => {
  const server = await start();
  const { text } = await server.get("/metrics");
  expect(text).toMatch(/^weft_event_loop_delay_seconds\{quantile="0\.99"\} [\d.e-]+$/m);
});

test("row 96: a promise that nobody handled is told, and ends nothing", async () => {
  const script = `
    import { guardProcess } from "./src/cli/process-guards.ts";
    const told = [];
    const line = (fields, message) => told.push([message, fields.err.message]);
    guardProcess({ debug: line, info: line, warn: line, error: line }, () => told.push("crash"));
    void Promise.reject(new Error("lost"));
    setImmediate(() => process.stdout.write(JSON.stringify(told)));
  `;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--import", "tsx", "--input-type=module", "--eval", script],
    { cwd: packageRoot, timeout: 15_000 },
  );
  expect(JSON.parse(stdout)).toEqual([["unhandled rejection", "lost"]]);
});
