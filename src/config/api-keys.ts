/** How configured keys are written, and the names and digests that the server keeps instead of them. */
import { createHash } from "node:crypto";
import type { ApiKey } from "../deps.ts";
import { list } from "./value-kinds.ts";
import type { ValueKind } from "./value-kinds.ts";

/** `name=key`. A key that merely ends in `=`, as base64 does, has no name. */
const NAMED_KEY = /^([\w.-]{1,64})=([^=].*)$/s;

const TEXTS = list("key");

/** As other lists, but nothing given in place of a key, as of an unset variable, is no key less: that would open the server. */
export const keyList: ValueKind<readonly string[]> = {
  ...TEXTS,
  expected: "keys, each KEY or NAME=KEY and none of them empty",
  read(raw) {
    const keys = TEXTS.read(raw);
    // Between commas nothing is nothing, as in other lists.
    const given = Array.isArray(raw) ? raw.length : 1;
    return keys !== undefined && keys.length >= given ? keys : undefined;
  },
};

/** The digest of a key, for those who do not want to write the key itself into a file. */
const DIGEST = /^sha256:([0-9a-f]{64})$/i;

/**
 * Keys without a name are called `key-1`, `key-2`, … in the order given. Keys of one name have one owner.
 * @param unnamed What they are called instead of `key`.
 */
export function parseApiKeys(entries: readonly string[], unnamed = "key"): ApiKey[] {
  const named = entries.map((entry) => NAMED_KEY.exec(entry));
  const taken = new Set(named.map((match) => match?.[1]));
  return entries.map((entry, index) => {
    const [, name, rest] = named[index] ?? [];
    return { name: name ?? freeName(unnamed, index + 1, taken), sha256: digestOf(rest ?? entry) };
  });
}

/** In place of a key: meant as a digest, whatever follows. */
const MEANT_AS_DIGEST = /^sha256:/i;
/** Long and mixed as random bytes are, so that no name is taken for one. */
const BASE64 = /^(?=.{24})(?=.*[a-z])(?=.*[A-Z])(?:[\w+/-]{4})*[\w+/-]{3}=$/;

/** @returns What is wrong with an entry, behind "the key "; undefined for a good one. It shows nothing of the entry. */
export function keyProblem(entry: string): string | undefined {
  const [, , key = entry] = NAMED_KEY.exec(entry) ?? [];
  if (entry.startsWith("="))
    return 'has no name in front of its "="; write NAME=KEY, or give a key that begins with "=" as sha256:HEX.';
  if (/^[^=]+=$/.test(entry) && !BASE64.test(entry))
    return 'has a name and nothing behind its "="; write NAME=KEY, with a name also if the key itself ends in "=": NAME=KEY=.';
  if (MEANT_AS_DIGEST.test(key) && !DIGEST.test(key))
    return 'has something else than 64 hexadecimal digits behind "sha256:"; write what `printf %s KEY | sha256sum` shows.';
  if (digestOf(key) === digestOf("")) return "is the digest of an empty text, as of an unset variable.";
  if (/=sha256:/i.test(entry) && key === entry)
    return 'has a name that is none: up to 64 letters, digits, "_", "." and "-".';
  return undefined;
}

/** A name of nobody else: owners of the same name see each other's responses. */
function freeName(unnamed: string, number: number, taken: ReadonlySet<string | undefined>): string {
  let name = `${unnamed}-${number}`;
  while (taken.has(name)) name += "-unnamed";
  return name;
}

/** SHA-256 in hexadecimal; a key that is given as its digest has it already. */
export function digestOf(key: string): string {
  return DIGEST.exec(key)?.[1]?.toLowerCase() ?? createHash("sha256").update(key).digest("hex");
}
