/** Turns configured keys into the names and digests that the server keeps instead of them. */
import { createHash } from "node:crypto";
import type { ApiKey } from "../deps.ts";

/** `name=key`. A key that merely ends in `=`, as base64 does, has no name. */
const NAMED_KEY = /^([\w.-]{1,64})=([^=].*)$/s;

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
