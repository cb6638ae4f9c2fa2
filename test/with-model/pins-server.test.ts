/** The built server with pinned prompts: what a client sees of them, whatever others ask and whatever becomes of the engine. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "vitest";
import { complete } from "../support/complete.ts";
import { childrenOf, runServer, startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";
import { TINY_DECODERS, writeTinyDecoder } from "../support/tiny-gguf.ts";

const directory = mkdtempSync(join(tmpdir(), "weft-pins-server-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

let server: RunningServer | undefined;
afterEach(async () => {
  await server?.stop();
  server = undefined;
});

const SYSTEM =
  "You are the assistant of a shop that sells tea. You answer in one short sentence, you never speak of coffee, and you " +
  "always end with the price of the tea in euros. The tea is from the hills of Assam, of Darjeeling and of Ceylon.";
const TEA = join(directory, "tea.txt");
writeFileSync(TEA, `${SYSTEM}\n`);
const LONG = join(directory, "long.txt");
writeFileSync(LONG, SYSTEM.repeat(5));

const TOOLS = [
  {
    type: "function",
    function: {
      name: "price",
      description: "The price of a tea in euros.",
      parameters: { type: "object", properties: { tea: { type: "string" } }, required: ["tea"] },
    },
  },
];
const WITH_TOOLS = join(directory, "tools.json");
writeFileSync(WITH_TOOLS, JSON.stringify({ messages: [{ role: "system", content: SYSTEM }], tools: TOOLS }));

interface Chat {
  readonly content: string;
  readonly cached: number;
}

async function chat(user: string, extra: object = {}, key = "", model = "pocket"): Promise<Chat> {
  const messages = [
    { role: "system", content: SYSTEM },
    { role: "user", content: user },
  ];
  const response = await fetch(`${server?.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: JSON.stringify({ model, messages, temperature: 0, max_tokens: 12, ...extra }),
  });
  expect(response.status).toBe(200);
  const { choices, usage } = (await response.json()) as {
    choices: { message: { content: string | null } }[];
    usage: { prompt_tokens_details: { cached_tokens: number } };
  };
  return {
    content: choices[0]?.message.content ?? "",
    cached: usage.prompt_tokens_details.cached_tokens,
  };
}

async function pins(key = ""): Promise<unknown> {
  const headers = { authorization: `Bearer ${key}` };
  return (await fetch(`${server?.url}/debug/pins`, { headers })).json();
}

const metric = async (name: string): Promise<number> => {
  const text = await (await fetch(`${server?.url}/metrics`)).text();
  return Number(new RegExp(`^${name}\\{[^}]*\\} (.+)$`, "m").exec(text)?.[1] ?? Number.NaN);
};

/** Prompts of others, more than there are slots and bytes for, asked often enough to be worth keeping. */
async function others(): Promise<void> {
  for (let hero = 0; hero < 5; hero++)
    for (let turn = 0; turn < 3; turn++) {
      const prompt = Array.from({ length: 60 }, (_, i) => `Hero ${hero} counts to ${i} and goes home.`).join(
        " ",
      );
      await complete(server?.url ?? "", { model: "pocket", prompt, max_tokens: 4 }, "");
    }
}

test("the first request finds it computed, and so do those behind any traffic and behind the engine's death", async () => {
  server = await startServer("--slots", "2", "--context", "2048");
  const cold = await chat("Hello there");
  expect(cold.cached).toBe(0);
  await server.stop();
  const room = ["--spill-size", "2M", "--spill-dir", directory];
  server = await startServer("--slots", "2", "--context", "2048", "--pin-prompt", TEA, ...room);
  expect(await pins()).toEqual([{ name: "tea.txt", n_tokens: 86, bytes: 89_568, hits: 0 }]);
  expect(await chat("Hello there")).toEqual({ ...cold, cached: 86 });
  expect(await pins()).toEqual([{ name: "tea.txt", n_tokens: 86, bytes: 89_568, hits: 1 }]);
  await others();
  expect(await metric("weft_spill_prefixes")).toBeGreaterThan(0);
  expect(await metric("weft_spill_limit_bytes")).toBe(2 * 1024 ** 2 - 89_568);
  expect([await metric("weft_pinned_tokens"), await metric("weft_pinned_bytes")]).toEqual([86, 89_568]);
  expect(await chat("Hello there")).toEqual({ ...cold, cached: 86 });
  const [engine = 0] = await childrenOf(server.pid);
  process.kill(engine, "SIGKILL");
  expect(await chat("Hello there")).toEqual({ ...cold, cached: 86 });
  expect(await childrenOf(server.pid)).not.toContain(engine);
  await others();
  expect(await chat("Good evening")).toMatchObject({ cached: 86 });
  // Of this engine, which has found the file of the one before.
  expect(await pins()).toEqual([{ name: "tea.txt", n_tokens: 86, bytes: 89_568, hits: 2 }]);
  expect(await server.stop()).toBe(0);
  expect(readdirSync(directory).filter((name) => name.startsWith("weft-spill"))).toEqual([]);
});

test("every key and every salt reads it, with the tools that it is pinned with, and no other prompt", async () => {
  const keys = ["--api-key", "a=ka", "--api-key", "b=kb"];
  server = await startServer("--pin-prompt", TEA, "--pin-prompt", WITH_TOOLS, ...keys);
  for (const key of ["ka", "kb"])
    for (const extra of [{}, { cache_salt: `salt of ${key}` }])
      expect((await chat("Hello there", extra, key)).cached).toBe(86);
  const [, { n_tokens: most } = { n_tokens: 0 }] = (await pins("ka")) as { n_tokens: number }[];
  expect(most).toBeGreaterThan(86);
  expect((await chat("Hello there", { tools: TOOLS, cache_salt: "new" }, "kb")).cached).toBe(most);
  const messages = [{ role: "user", content: "Hello there" }];
  expect((await chat("", { messages, cache_salt: "new" }, "kb")).cached).toBe(0);
});

test("it is read beside a stream, and beside one that leaves no slot idle", async () => {
  server = await startServer("--slots", "2", "--context", "2048", "--pin-prompt", TEA);
  const stream = await server.post("/v1/completions", {
    model: "pocket",
    prompt: "Once upon a time",
    max_tokens: 1500,
    ignore_eos: true,
    stream: true,
  });
  for (const user of ["Hello there", "Good evening", "And you?"])
    expect((await chat(user, { cache_salt: user })).cached).toBe(86);
  await stream.body?.cancel();
});

const TEMPLATE = join(directory, "template.jinja");
writeFileSync(
  TEMPLATE,
  "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
);

test.each(TINY_DECODERS)("a model that takes no token back reads it as a whole: %s", async (kind) => {
  const path = join(directory, `${kind}.gguf`);
  writeTinyDecoder(path, kind, { width: 64 });
  const options = ["--slots", "2", "--context", "1024", "--checkpoint-size", "0"];
  server = await startServer(`tiny=${path}`, "--chat-template", TEMPLATE, ...options);
  const cold = await chat("Hello there", { ignore_eos: true }, "", "tiny");
  await server.stop();
  server = await startServer(`tiny=${path}`, "--chat-template", TEMPLATE, "--pin-prompt", TEA, ...options);
  const [{ n_tokens: tokens } = { n_tokens: 0 }] = (await pins()) as { n_tokens: number }[];
  expect(tokens).toBeGreaterThan(100);
  for (let i = 0; i < 3; i++) {
    const extra = { ignore_eos: true, cache_salt: `${i}` };
    expect(await chat("Hello there", extra, "", "tiny")).toEqual({ ...cold, cached: tokens });
  }
});

test.each<[string, readonly string[], string]>([
  [
    "more than --spill-size",
    ["--spill-size", "20K", "--pin-prompt", TEA],
    "weft: tea.txt cannot be pinned: 89592 bytes are needed and 20480 are left (--spill-size).\n",
  ],
  [
    "more than a slot holds",
    ["--context", "256", "--pin-prompt", LONG],
    "weft: long.txt cannot be pinned: it has 402 tokens, and a slot holds 256 (--context).\n",
  ],
  [
    "for a model that is not served",
    ["--pin-prompt", `${TEA}@large`],
    `weft: --pin-prompt ${TEA} is for "large", which is not served; served are: pocket.\n`,
  ],
])("a prompt is refused by name: %s", async (_, options, stderr) => {
  expect(await runServer("--port", "0", ...options)).toMatchObject({ stderr });
});
