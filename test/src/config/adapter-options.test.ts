/** `--lora` in all its forms: flags, one line of the environment, and the file. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadConfig } from "../../../src/config/load-config.ts";

const folder = mkdtempSync(join(tmpdir(), "weft-lora-"));
afterAll(() => rmSync(folder, { recursive: true }));

const PIRATE = { name: "pirate", file: "p.gguf", scale: 1, model: undefined };

test.each<[given: string, expected: object]>([
  ["pirate=p.gguf", PIRATE],
  ["pirate=p.gguf:0.5", { ...PIRATE, scale: 0.5 }],
  ["pirate=p.gguf:-1@smollm2", { ...PIRATE, scale: -1, model: "smollm2" }],
  ["pirate=p.gguf@hf:a/b:Q4", { ...PIRATE, model: "hf:a/b:Q4" }],
  ["a=some dir/b@c:d.gguf:2", { name: "a", file: "some dir/b@c:d.gguf", scale: 2, model: undefined }],
  ["dir/p.gguf", { ...PIRATE, name: "p", file: "dir/p.gguf" }],
  [
    "pirate=a.gguf.d/p.gguf:0.5@org/repo/x.gguf",
    { ...PIRATE, file: "a.gguf.d/p.gguf", scale: 0.5, model: "org/repo/x.gguf" },
  ],
  ["org/pirate:v2=C:\\p.GGUF", { ...PIRATE, name: "org/pirate:v2", file: "C:\\p.GGUF" }],
])("%s", (given, expected) => {
  expect(loadConfig({ flags: { lora: [given] }, env: {}, file: undefined }).values.lora).toEqual([expected]);
});

test("several come from one variable, and from an object in the file", () => {
  const both = [PIRATE, { name: "robot", file: "r.gguf", scale: 0.25, model: "b" }];
  const env = { WEFT_LORA: "pirate=p.gguf, robot=r.gguf:0.25@b," };
  expect(loadConfig({ flags: {}, env, file: undefined }).values.lora).toEqual(both);
  const file = join(folder, "weft.json");
  const robot = { file: "r.gguf", scale: 0.25, model: "b" };
  writeFileSync(file, JSON.stringify({ lora: { pirate: "p.gguf", robot } }));
  expect(loadConfig({ flags: {}, env: {}, file }).values.lora).toEqual(both);
  expect(loadConfig({ flags: {}, env: {}, file: undefined }).values.lora).toEqual([]);
});

test.each([
  [["pirate=p.bin"]],
  [["pirate=p.gguf:much"]],
  [["pirate=p.gguf:101"]],
  [["=p.gguf"]],
  [["a name=p.gguf"]],
  [["a=p.gguf", "a=r.gguf"]],
  [[{ name: "a" }]],
  [{ a: 1 }],
  [{ a: { file: "p.gguf", strength: 1 } }],
  [{ a: { file: "p.gguf", scale: "x" } }],
  [{ a: { scale: 1 } }],
  [7],
])("%j is refused in words", (lora) => {
  expect(() => loadConfig({ flags: { lora }, env: {}, file: undefined })).toThrow(
    /^Expected --lora to be NAME=FILE\.gguf/,
  );
});
