/** Model files, keys and what the operator looks at: rows 57, 97 to 108 and 110 to 127 of the fault matrix, as far as no process has to die. */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test, vi } from "vitest";
import { createEngine } from "../../../engine/engine.ts";
import { FakeBackend, fakeOutput } from "../../../engine/fake/backend.ts";
import { hostEngine } from "../../../engine/process/in-process.ts";
import { readGgufHeader } from "../../../models/gguf-header.ts";
import { ModelFileError } from "../../../models/model-file-error.ts";
import { packageRoot } from "../../../models/package-root.ts";
import { resolveModel } from "../../../models/resolve.ts";
import { parseApiKeys } from "../../../src/config/api-keys.ts";
import { systemClock } from "../../../src/system.ts";
import { LOAD_OPTIONS } from "../../support/engine.ts";
import { sayThenStop } from "../../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../../support/test-app.ts";
import { EOS } from "../../support/tiny-vocabulary.ts";

const folder = mkdtempSync(join(tmpdir(), "weft-faults-"));
afterAll(() => rmSync(folder, { recursive: true }));

const SECRET = "sk-0123456789abcdef";
const PLAIN_CHAT = { model: MODEL_ID, messages: [{ role: "user", content: "hi" }] };
const bearer = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });

const HOSTILE_NAMES = [
  "../../etc/passwd",
  "/etc/passwd",
  "a\0b",
  "%2e%2e%2fetc%2fpasswd",
  "\u2024\u2024/etc/passwd",
  "hf:org/repo",
  "http://127.0.0.1/x.gguf",
  "__proto__",
  "constructor",
];

test("row 57: a model name of a client is no path, whatever it is", async () => {
  const { post, app, engine } = createTestApp();
  for (const model of HOSTILE_NAMES) {
    const response = await post("/v1/chat/completions", { ...PLAIN_CHAT, model });
    expect([model, response.status]).toEqual([model, 404]);
    expect(await response.json()).toMatchObject({ error: { code: "model_not_found", param: null } });
    expect((await app.request(`/v1/models/${encodeURIComponent(model)}`)).status).toBe(404);
  }
  const long = await post("/v1/chat/completions", { ...PLAIN_CHAT, model: "x".repeat(10_000) });
  expect(long.status).toBe(400);
  expect((await long.text()).length).toBeLessThan(1000);
  expect(engine.commands).toEqual([]);
});

test("row 97: a model file cut off anywhere in its header is refused with reason and byte", () => {
  const whole = readFileSync(join(packageRoot, "models/pocket.gguf"));
  const path = join(folder, "cut.gguf");
  for (let length = 0; length < 80 * 1024; length += 1024) {
    writeFileSync(path, whole.subarray(0, length));
    expect(() => readGgufHeader(path)).toThrow(/is not a usable GGUF model: .* \(at byte \d+\)/);
  }
});

test("row 98: a header that claims more than any file holds is refused before it is followed", () => {
  const path = join(folder, "absurd.gguf");
  const u64 = (value: bigint): Buffer => Buffer.from(BigUint64Array.of(value).buffer);
  const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer);
  const text = (value: string): Buffer => Buffer.concat([u64(BigInt(value.length)), Buffer.from(value)]);
  const start = (tensors: bigint, keys: bigint): Buffer =>
    Buffer.concat([Buffer.from("GGUF"), u32(3), u64(tensors), u64(keys)]);
  const array = (depth: number): Buffer =>
    depth === 0 ? u32(4) : Buffer.concat([u32(9), u64(1n), array(depth - 1)]);
  for (const bytes of [
    start(0n, 2n ** 62n),
    start(2n ** 40n, 0n),
    Buffer.concat([start(0n, 1n), text("a"), u32(9), u32(4), u64(2n ** 40n)]),
    Buffer.concat([start(0n, 1n), text("a"), u32(8), u64(2n ** 40n)]),
    Buffer.concat([start(0n, 1n), text("a"), u32(9), array(500)]),
    Buffer.concat([start(0n, 1n), text("a"), u32(4), u32(1)]),
  ]) {
    writeFileSync(path, bytes);
    expect(() => readGgufHeader(path)).toThrow(ModelFileError);
  }
});

test("row 108: a hub name that would leave the cache folder is refused", async () => {
  const env = { WEFT_CACHE: folder, WEFT_OFFLINE: "1" };
  for (const name of [
    "hf:../../x/y",
    "hf:a/../../b",
    "hf:/etc/passwd",
    "hf:a/b/../../../c.gguf",
    "hf:a/b\0c",
    "hf:a/b:..",
    `hf:a/${"b".repeat(5000)}`,
    "hf:a\\b/c",
  ]) {
    await expect(resolveModel(name, { env })).rejects.toThrow("is not a model name");
  }
});

test("row 115: a clock that jumps moves no timeout", () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  try {
    vi.setSystemTime(new Date("2030-01-01T00:00:00Z"));
    const before = systemClock.nowMs();
    vi.setSystemTime(new Date("2030-01-01T01:00:00Z"));
    expect(systemClock.epochSeconds()).toBe(Date.parse("2030-01-01T01:00:00Z") / 1000);
    expect(systemClock.nowMs() - before).toBeLessThan(3_600_000);
    vi.setSystemTime(new Date("2029-12-31T23:00:00Z"));
    expect(systemClock.nowMs()).toBeGreaterThanOrEqual(before);
  } finally {
    vi.useRealTimers();
  }
});

test("row 118: a secret of one key is in no answer, error, log or number of another's", async () => {
  const canary = "CANARY-7f3a";
  const backend = new FakeBackend({ slots: 2, onRun: () => new Promise((resolve) => setImmediate(resolve)) });
  const port = hostEngine((emit) => createEngine(async () => backend, emit));
  const apiKeys = parseApiKeys(["ann=a", "bob=b"]);
  const started = createTestApp({
    port,
    facts: { ...backend.facts, loadMs: 0 },
    config: { apiKeys, isolateKeys: true },
  });
  await started.loaded.engine.load({ ...LOAD_OPTIONS, slots: 2 });
  const ask = async (key: string, prompt: string): Promise<string> => {
    const body = { model: "tiny", prompt, max_tokens: 12, temperature: 0, add_special_tokens: false };
    return (await started.post("/v1/completions", body, { headers: bearer(key) })).text();
  };
  const asked: Promise<string>[] = [];
  for (let i = 0; i < 25; i++) {
    void ask("a", `my secret is ${canary}, number ${i}`);
    asked.push(ask("b", `my secret is CANAR, number ${i}`));
  }
  for (const [i, answer] of (await Promise.all(asked)).entries()) {
    expect(answer).not.toContain(canary);
    const { choices } = JSON.parse(answer) as { choices: { text: string }[] };
    const truth = fakeOutput([...Buffer.from(`my secret is CANAR, number ${i}`)], 12);
    expect(choices[0]?.text).toBe(Buffer.from(truth).toString());
  }
  for (const path of ["/metrics", "/slots", "/props", "/debug/timeline"]) {
    const shown = await started.app.request(path, { headers: bearer("b") });
    expect(await shown.text()).not.toContain(canary);
  }
  expect(await ask("b", "x".repeat(5000))).not.toContain(canary);
  expect(JSON.stringify(started.log)).not.toContain(canary);
  await started.loaded.engine.stop();
});

test("row 119: only a whole key in one of its three places lets in", async () => {
  const { app } = createTestApp({ config: { apiKeys: parseApiKeys([`ann=${SECRET}`]) } });
  const status = async (headers: Record<string, string> | Headers): Promise<number> =>
    (await app.request("/v1/models", { headers })).status;
  for (const headers of [
    bearer(SECRET),
    { authorization: `bearer ${SECRET}` },
    { authorization: `BEARER   ${SECRET} ` },
    { "x-api-key": SECRET },
    { "api-key": SECRET },
  ]) {
    expect(await status(headers)).toBe(200);
  }
  const twice = new Headers(bearer(SECRET));
  twice.append("authorization", `Bearer ${SECRET}`);
  for (const headers of [
    {},
    bearer("wrong"),
    bearer(SECRET.slice(0, -1)),
    bearer(`${SECRET}x`),
    bearer(SECRET.toUpperCase()),
    bearer("x".repeat(10_000)),
    bearer(createHash("sha256").update(SECRET).digest("hex")),
    { authorization: SECRET },
    { authorization: `Basic ${Buffer.from(`ann:${SECRET}`).toString("base64")}` },
    { authorization: "Bearer" },
    { "x-api-key": "" },
    twice,
  ]) {
    expect(await status(headers)).toBe(401);
  }
});

test("row 120: the operator's paths need their own key, whoever's page asks", async () => {
  const [apiKeys, adminKeys] = [parseApiKeys([SECRET]), parseApiKeys(["root"], "admin")];
  const { app } = createTestApp({ config: { apiKeys, adminKeys } });
  const status = async (headers: Record<string, string>): Promise<number> =>
    (await app.request("/slots", { headers })).status;
  expect(await status({})).toBe(401);
  expect(await status(bearer(SECRET))).toBe(403);
  expect(await status({ ...bearer("root"), origin: "https://evil.example" })).toBe(403);
  expect(await status(bearer("root"))).toBe(200);
});

test("row 121: a page that has rebound its name, or posts without asking, has nothing carried out", async () => {
  const { app, post, engine } = createTestApp();
  const path = "/v1/chat/completions";
  for (const headers of [
    { host: "evil.com" },
    { host: "localhost.evil.com:9338" },
    { origin: "https://evil.com", "content-type": "text/plain" },
    { origin: "http://localhost.evil.com" },
    { origin: "null" },
  ]) {
    expect((await post(path, PLAIN_CHAT, { headers })).status).toBe(403);
  }
  const silent = await app.request(path, {
    method: "POST",
    headers: { host: "localhost", origin: "http://localhost:3000", "content-type": "text/plain" },
    body: JSON.stringify(PLAIN_CHAT),
  });
  expect(silent.status).toBe(415);
  expect(engine.commands).toEqual([]);
});

test("row 122: names, keys and paths of clients make no new metric series", async () => {
  const { app, post, deps } = createTestApp({ config: { apiKeys: parseApiKeys([SECRET]) } });
  const round = async (suffix: string): Promise<number> => {
    for (let i = 0; i < 20; i++) {
      const headers = bearer(SECRET);
      await post("/v1/chat/completions", { ...PLAIN_CHAT, model: `model-${suffix}-${i}` }, { headers });
      await post("/v1/chat/completions", PLAIN_CHAT, { headers: bearer(`key-${suffix}-${i}`) });
      await app.request(`/path-${suffix}-${i}`, { headers: { ...headers, "user-agent": `${suffix}-${i}` } });
    }
    return (await deps.metrics.render(deps.models)).split("\n").filter((line) => !line.startsWith("#"))
      .length;
  };
  expect(await round("b")).toBe(await round("a"));
});

test("row 124: request ids of clients are made harmless, and equal ones do not meet", async () => {
  const { app, chat, engine } = createTestApp();
  for (const id of ["x".repeat(10_240), "a b", "<script>", "é".normalize("NFC"), ""]) {
    const { headers } = await app.request("/version", { headers: { "x-request-id": id } });
    expect(headers.get("x-request-id")).toMatch(/^req_\d+$/);
  }
  engine.script = sayThenStop("a", EOS);
  const answers = await Promise.all([1, 2, 3].map(() => chat({}, { headers: { "x-request-id": "same" } })));
  for (const answer of answers) expect(answer.status).toBe(200);
  expect(new Set(engine.submits.map(({ id }) => id)).size).toBe(3);
});

test("row 127: metrics are there while a model loads and while its engine is dead", async () => {
  for (const [state, up] of [
    ["ready", 1],
    ["loading", 0],
    ["restarting", 0],
    ["failed", 0],
  ] as const) {
    const gone = state === "loading" || state === "failed";
    const { app } = createTestApp({ model: { state, ...(gone ? { loaded: undefined } : {}) } });
    const response = await app.request("/metrics");
    expect(response.status).toBe(200);
    expect(await response.text()).toContain(`weft_engine_up{model="${MODEL_ID}"} ${up}`);
  }
});
