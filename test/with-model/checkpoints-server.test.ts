/** The built server with models that cannot take tokens back: a chat's next turn goes on from a checkpoint of the last one. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "vitest";
import { complete } from "../support/complete.ts";
import type { Completion } from "../support/complete.ts";
import { startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";
import { TINY_DECODERS, writeTinyDecoder } from "../support/tiny-gguf.ts";

const folder = mkdtempSync(join(tmpdir(), "weft-checkpoints-server-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Computing has to take many times what a checkpoint takes, or none would be worth it. */
const WIDTH = 256;

let server: RunningServer;
afterEach(() => server.stop());

async function start(kind: (typeof TINY_DECODERS)[number], ...options: readonly string[]): Promise<void> {
  const path = join(folder, `${kind}.gguf`);
  writeTinyDecoder(path, kind, { width: WIDTH });
  server = await startServer(`tiny=${path}`, "--slots", "2", "--context", "2048", ...options);
}

const ask = (prompt: string, extra: object = {}, key = ""): Promise<Completion> =>
  complete(server.url, { model: "tiny", prompt, max_tokens: 12, ...extra }, key);

async function metric(name: string, key = ""): Promise<number> {
  const headers = { authorization: `Bearer ${key}` };
  const text = await (await fetch(`${server.url}/metrics`, { headers })).text();
  const line = text.split("\n").find((candidate) => candidate.startsWith(name));
  return Number(line?.split(" ").at(-1) ?? Number.NaN);
}

/** A chat whose template shows an earlier answer in another way than it has opened it. */
const story = (hero: string): string =>
  Array.from({ length: 45 }, (_, i) => `${hero} counts to ${i}.`).join(" ");
const firstTurn = (hero: string): string => `${story(hero)}\nassistant: <think>`;
const nextTurn = (hero: string): string =>
  `${story(hero)}\nassistant: done.\nuser: once more.\nassistant: <think>`;

test.each(TINY_DECODERS)(
  "the next turn of a chat computes its own tokens, with the text of a cold one: %s",
  async (kind) => {
    await start(kind, "--checkpoint-size", "0");
    const cold = [await ask(firstTurn("Anna")), await ask(nextTurn("Anna"))];
    expect(Number.isNaN(await metric("weft_checkpoints{"))).toBe(true);
    await server.stop();
    await start(kind);
    const warm = [await ask(firstTurn("Anna")), await ask(nextTurn("Anna"))];
    expect(warm.map(({ text }) => text)).toEqual(cold.map(({ text }) => text));
    const [first, next] = warm;
    expect(first?.cachedTokens).toBe(0);
    // What is behind the last line of the grid that the two share, at most, and what is new.
    expect((next?.promptTokens ?? 0) - (next?.cachedTokens ?? 0)).toBeLessThan(64 + 64);
    expect(cold[1]?.cachedTokens).toBeLessThan(kind === "gemma3" ? 1000 : 1);
    expect(await metric("weft_checkpoints{")).toBeGreaterThan(1);
    const [bytes, limit] = [
      await metric("weft_checkpoint_bytes{"),
      await metric("weft_checkpoint_limit_bytes{"),
    ];
    expect([bytes > 0, bytes <= limit]).toEqual([true, true]);
  },
);

test("more chats than slots come back to their states; other keys and salts never do", async () => {
  await start("mamba", "--spill-size", "0", "--api-key", "a=ka", "--api-key", "b=kb");
  const heroes = ["Anna", "Bruno", "Clara", "David", "Emma"];
  const first: Completion[] = [];
  for (const hero of heroes) first.push(await ask(firstTurn(hero), {}, "ka"));
  for (const [i, hero] of heroes.entries()) {
    const again = await ask(firstTurn(hero), {}, "ka");
    expect([again.text, again.promptTokens - again.cachedTokens]).toEqual([first[i]?.text, 1]);
    const next = await ask(nextTurn(hero), {}, "ka");
    expect(next.cachedTokens).toBeGreaterThan(0.8 * again.promptTokens);
  }
  expect((await ask(firstTurn("Anna"), {}, "kb")).cachedTokens).toBe(0);
  expect((await ask(firstTurn("Anna"), { cache_salt: "s" }, "ka")).cachedTokens).toBe(0);
  expect((await ask(firstTurn("Anna"), {}, "kb")).cachedTokens).toBeGreaterThan(500);
  const restored = await metric('weft_checkpoint_operations_total{model="tiny",kind="restored"}', "ka");
  expect(restored).toBeGreaterThanOrEqual(8);
});
