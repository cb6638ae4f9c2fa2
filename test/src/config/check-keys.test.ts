/** What is refused of keys and their policies at the start, since it would have no effect, or another one than meant. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ConfigError } from "../../../src/config/config-error.ts";
import { loadConfig } from "../../../src/config/load-config.ts";

const load = (flags: Record<string, unknown>, env: Record<string, string> = {}) =>
  loadConfig({ flags, env, file: undefined }).values;

test.each<[flags: Record<string, unknown>, message: string]>([
  [
    { "key-policy": ["bbo:weight=2"], "api-key": ["ann=a", "bob=b", "c"] },
    '--key-policy is for "bbo", but there is no such API key; it can be for "ann", "bob", "key-3" or "*".',
  ],
  [
    { "key-policy": ["bob:running=1"] },
    '--key-policy is for "bob", but there are no API keys; it can be for "anonymous" or "*".',
  ],
  [
    { "key-policy": ["sk-s3cret:running=1"], "api-key": ["sk-s3cret", "ann=a"] },
    '--key-policy has a key itself where its name belongs: "key-1", "ann" or "*".',
  ],
  [
    { "key-policy": ["anonymous:running=1"], "api-key": ["ann=a"] },
    '--key-policy is for "anonymous", but there is no such API key; it can be for "ann" or "*".',
  ],
  [
    { "key-policy": ["root:running=1"], "api-key": ["ann=a"], "admin-key": ["root=r"] },
    '--key-policy is for "root", but there is no such API key; it can be for "ann" or "*".',
  ],
  [
    { "api-key": ["s3cret", "a=s3cret"] },
    'The API keys "key-1" and "a" are the same key; leave one of them out.',
  ],
  [
    { "api-key": ["a=s3cret", "s3cret"] },
    'The API keys "a" and "key-2" are the same key; leave one of them out.',
  ],
  [
    { "admin-key": ["s3cret", "s3cret"] },
    'The admin keys "admin-1" and "admin-2" are the same key; leave one of them out.',
  ],
  [
    { "api-key": ["alice=s3cret bob=s3cret2"] },
    'The API key "alice" has a space in it; for several keys repeat --api-key, or separate them by commas in WEFT_API_KEYS.',
  ],
  [
    { "admin-key": ["x", "s3 cret"] },
    'The admin key "admin-2" has a space in it; for several keys repeat --admin-key, or separate them by commas in WEFT_ADMIN_KEYS.',
  ],
])("%j is refused", (flags, message) => {
  expect(() => load(flags)).toThrow(expect.objectContaining({ name: "ConfigError", message }));
});

const NOTHING_BEHIND =
  'has a name and nothing behind its "="; write NAME=KEY, with a name also if the key itself ends in "=": NAME=KEY=.';
const NO_NAME =
  'has no name in front of its "="; write NAME=KEY, or give a key that begins with "=" as sha256:HEX.';
const NO_DIGEST =
  'has something else than 64 hexadecimal digits behind "sha256:"; write what `printf %s KEY | sha256sum` shows.';
const HEX = "0123456789abcdef".repeat(4);

describe.each(["api-key", "admin-key"] as const)("a broken --%s", (option) => {
  const [kind, unnamed, variable] =
    option === "api-key" ? ["API", "key", "WEFT_API_KEYS"] : ["admin", "admin", "WEFT_ADMIN_KEYS"];
  const folder = mkdtempSync(join(tmpdir(), "weft-keys-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "weft.json");

  /** What is said where the entries stand, for each place in which they are refused. */
  function refusals(entries: readonly string[]): Record<string, string> {
    writeFileSync(file, JSON.stringify({ [option]: entries }));
    const places: Readonly<Record<string, () => unknown>> = {
      "a flag": () => load({ [option]: entries }),
      "a variable": () => load({}, { [variable]: entries.join(",") }),
      "an array in a variable": () => load({}, { [variable]: JSON.stringify(entries) }),
      "the file": () => loadConfig({ flags: {}, env: {}, file }),
    };
    const refused: Record<string, string> = {};
    for (const [place, start] of Object.entries(places)) {
      try {
        start();
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        refused[place] = error.message;
      }
    }
    return refused;
  }

  test.each([
    ["alice=", `${unnamed}-2`, NOTHING_BEHIND],
    // Base64 by their lengths and characters, but names.
    ["bob=", `${unnamed}-2`, NOTHING_BEHIND],
    ["customer-success-team-1=", `${unnamed}-2`, NOTHING_BEHIND],
    ["alice@example.com=", `${unnamed}-2`, NOTHING_BEHIND],
    ["=s3cret", `${unnamed}-2`, NO_NAME],
    ["=", `${unnamed}-2`, NO_NAME],
    ["sha256:", `${unnamed}-2`, NO_DIGEST],
    ["sha256:abc", `${unnamed}-2`, NO_DIGEST],
    [`SHA256:${HEX}0`, `${unnamed}-2`, NO_DIGEST],
    ["alice=sha256:abc", "alice", NO_DIGEST],
    [`alice=sha256:${HEX.slice(1)}g`, "alice", NO_DIGEST],
    [
      `alice=sha256:${createHash("sha256").digest("hex")}`,
      "alice",
      "is the digest of an empty text, as of an unset variable.",
    ],
    [
      `alice@example.com=sha256:${HEX}`,
      `${unnamed}-2`,
      'has a name that is none: up to 64 letters, digits, "_", "." and "-".',
    ],
  ])("is refused in each place, and not shown: %s", (entry, name, problem) => {
    const message = `The ${kind} key "${name}" ${problem}`;
    expect(refusals(["first", entry])).toEqual({
      "a flag": message,
      "a variable": message,
      "an array in a variable": message,
      "the file": message,
    });
  });

  test.each([[[""]], [[" "]], [["alice=s3cret", ""]]])("is refused where there is none: %j", (entries) => {
    const message = "to be keys, each KEY or NAME=KEY and none of them empty, but got something else.";
    expect(refusals(entries)).toMatchObject({
      "a flag": `Expected --${option} ${message}`,
      "an array in a variable": `Expected ${variable} ${message}`,
      "the file": `Expected "${option}" in ${file} ${message}`,
    });
    for (const value of [" ", ",", " , "])
      expect(() => load({}, { [variable]: value })).toThrow(`Expected ${variable} ${message}`);
  });

  test.each([
    "YWJjZA==",
    "bqsMR63VZsYH3nkb7rGrX2SsMrHw3M6TGDxHTB1EBTA=",
    "w+sMR63VZsYH3nkb7rGrX2SsMrHw3M6TGDxHTB/EBTA=",
    "alice=abc=",
    "alice=YWJjZA==",
    "alice=a=b",
    `sha256:${HEX}`,
    `alice=sha256:${HEX.toUpperCase()}`,
  ])("is not this one: %s", (entry) => {
    expect(refusals(["first", entry])).toEqual({});
  });

  test("is none where none is meant", () => {
    expect(load({}, { [variable]: "" })[option]).toEqual([]);
    expect(load({}, { [variable]: "[]" })[option]).toEqual([]);
    expect(load({}, { [variable]: "a=s3cret," })[option]).toEqual(["a=s3cret"]);
  });
});

test("whitespace of any kind separates no keys", () => {
  for (const keys of ["a=1\nb=2", "a=1\tb=2", "a=1\u00a0b=2"])
    expect(() => load({}, { WEFT_API_KEYS: keys })).toThrow('The API key "a" has a space in it;');
});

test.each<[flags: Record<string, unknown>]>([
  [{ "key-policy": ["*:weight=2"] }],
  [{ "key-policy": ["anonymous:running=1"] }],
  [{ "key-policy": ["*:class=low", "key-2:weight=2", "bob:queued=0"], "api-key": ["bob=b", "c"] }],
  [{ "key-policy": ["anonymous:running=1"], "api-key": ["anonymous=a"] }],
  [{ "key-policy": ["anonymous:running=1"], "admin-key": ["r"] }],
  // Keys of one name have one owner.
  [{ "api-key": ["bob=old", "bob=new"] }],
  // Whoever has both kinds may use one key.
  [{ "api-key": ["ann=a"], "admin-key": ["a"] }],
])("%j is taken", (flags) => {
  expect(() => load(flags)).not.toThrow();
});
