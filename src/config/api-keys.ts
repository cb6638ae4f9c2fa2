/** Turns configured keys into the names and digests that the server keeps instead of them. */
import { createHash } from "node:crypto";
import type { ApiKey } from "../deps.ts";

/** `name=key`. A key that merely ends in `=`, as base64 does, has no name. */
const NAMED_KEY = /^([\w.-]{1,64})=([^=].*)$/s;

/** Keys without a name are called `key-1`, `key-2`, … in the order given. */
export function parseApiKeys(entries: readonly string[]): ApiKey[] {
  return entries.map((entry, index) => {
    const [, name, named] = NAMED_KEY.exec(entry) ?? [];
    const key = named ?? entry;
    return { name: name ?? `key-${index + 1}`, sha256: createHash("sha256").update(key).digest("hex") };
  });
}
