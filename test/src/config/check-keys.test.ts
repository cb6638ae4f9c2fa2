/** What is refused of keys and their policies at the start, since it would have no effect, or another one than meant. */
import { expect, test } from "vitest";
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
