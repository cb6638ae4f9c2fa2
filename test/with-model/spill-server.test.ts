/** The built server with more conversations than slots: whose slot went to others finds its prompt in a file. */
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "vitest";
import { complete } from "../support/complete.ts";
import type { Completion } from "../support/complete.ts";
import { startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";

const directory = mkdtempSync(join(tmpdir(), "weft-spill-server-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

let server: RunningServer;
afterEach(() => server.stop());

const start = (...options: readonly string[]): Promise<RunningServer> =>
  startServer(
    "--slots",
    "2",
    "--context",
    "4096",
    "--spill-size",
    "200M",
    "--spill-dir",
    directory,
    ...options,
  );

/** Long enough that nobody would compute it again who could read it. */
const story = (hero: string): string =>
  Array.from({ length: 180 }, (_, i) => `${hero} counts to ${i} and then goes home.`).join(" ");
const HEROES = ["Anna", "Bruno", "Clara", "David"];

const ask = (prompt: string, extra: object = {}, key = ""): Promise<Completion> =>
  complete(server.url, { model: "pocket", prompt, max_tokens: 24, ...extra }, key);

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const line = text.split("\n").find((candidate) => candidate.startsWith(name));
  return Number(line?.split(" ").at(-1) ?? Number.NaN);
}

const spilledFiles = (): string[] =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

/** Three times each: what is asked again and again is worth a file. */
async function askAll(extra: object = {}): Promise<Completion[]> {
  const answers: Completion[] = [];
  for (const hero of HEROES)
    for (const turn of [1, 2, 3]) {
      const answer = await ask(story(hero), extra);
      if (turn === 1) answers.push(answer);
    }
  return answers;
}

test("conversations come back to what was computed, with the same text; files are private and go", async () => {
  server = await start();
  const first = await askAll();
  expect(first.map(({ cachedTokens }) => cachedTokens < 100)).toEqual(HEROES.map(() => true));
  const files = spilledFiles();
  expect(files.length).toBeGreaterThanOrEqual(HEROES.length - 2);
  expect(files.map((file) => statSync(file).mode & 0o777)).toEqual(files.map(() => 0o600));
  expect(await metric("weft_spill_prefixes")).toBe(files.length);
  expect(await metric("weft_spill_bytes")).toBe(files.reduce((sum, file) => sum + statSync(file).size, 0));
  for (const [i, hero] of HEROES.entries()) {
    const again = await ask(story(hero));
    expect(again.text).toBe(first[i]?.text);
    expect(again.cachedTokens).toBeGreaterThan(0.9 * again.promptTokens);
  }
  expect(await metric('weft_spill_operations_total{model="pocket",kind="restored"}')).toBeGreaterThanOrEqual(
    3,
  );
  expect(await metric('weft_spill_operations_total{model="pocket",kind="restore_failed"}')).toBe(0);
  expect(await metric("weft_spill_restored_tokens_total")).toBeGreaterThan(1000);
  expect(await server.stop()).toBe(0);
  expect(readdirSync(directory)).toEqual([]);
});

test("a file that was changed is not used, and nothing is left of a server that was killed", async () => {
  server = await start();
  const first = await askAll();
  for (const file of spilledFiles()) writeFileSync(file, "something else");
  for (const [i, hero] of HEROES.entries()) expect((await ask(story(hero))).text).toBe(first[i]?.text);
  expect(
    await metric('weft_spill_operations_total{model="pocket",kind="restore_failed"}'),
  ).toBeGreaterThanOrEqual(1);
  await server.kill();
  expect(spilledFiles().length).toBeGreaterThan(0);
  server = await start();
  expect(spilledFiles()).toEqual([]);
});

test("what one key or salt has had computed is not read for another", async () => {
  server = await start("--api-key", "a=ka", "--api-key", "b=kb");
  const [anna] = HEROES;
  for (const hero of HEROES) for (let turn = 0; turn < 3; turn++) await ask(story(hero), {}, "ka");
  expect((await ask(story(anna ?? ""), {}, "kb")).cachedTokens).toBe(0);
  expect((await ask(story(anna ?? ""), { cache_salt: "s" }, "ka")).cachedTokens).toBe(0);
  expect((await ask(story(anna ?? ""), {}, "ka")).cachedTokens).toBeGreaterThan(1000);
});
