/** Whether keys and their policies fit together: what could only be a slip is refused instead of having no effect. */
import type { ApiKey } from "../deps.ts";
import { digestOf, keyProblem, parseApiKeys } from "./api-keys.ts";
import { ConfigError } from "./config-error.ts";
import { environmentName } from "./options.ts";
import type { ServeValues } from "./options.ts";

/** The owner of what comes without a key. */
const NOBODY = "anonymous";
/** More names are not listed in a message. */
const MOST_LISTED = 20;

type KeyValues = Pick<ServeValues, "api-key" | "admin-key" | "key-policy">;

/** @throws {ConfigError} Which shows no key. */
export function checkKeys(values: KeyValues): void {
  const keys = parseApiKeys(values["api-key"]);
  checkEach("api-key", values["api-key"], keys);
  checkEach("admin-key", values["admin-key"], parseApiKeys(values["admin-key"], "admin"));
  const named = new Set(keys.map(({ name }) => name));
  const owners = named.size === 0 ? new Set([NOBODY]) : named;
  const digests = new Set(keys.map(({ sha256 }) => sha256));
  for (const name of values["key-policy"]?.names ?? []) {
    if (owners.has(name)) continue;
    if (digests.has(digestOf(name)))
      throw new ConfigError(
        `--key-policy has a key itself where its name belongs: ${listed([...owners])} or "*".`,
      );
    const why = named.size === 0 ? "there are no API keys" : "there is no such API key";
    throw new ConfigError(
      `--key-policy is for "${name}", but ${why}; it can be for ${listed([...owners])} or "*".`,
    );
  }
}

/** @param entries As given, in the order of the keys. */
function checkEach(
  option: "api-key" | "admin-key",
  entries: readonly string[],
  keys: readonly ApiKey[],
): void {
  const kind = option === "api-key" ? "API" : "admin";
  const seen = new Map<string, string>();
  for (const [index, { name, sha256 }] of keys.entries()) {
    const entry = entries[index] ?? "";
    if (/\s/.test(entry))
      throw new ConfigError(
        `The ${kind} key "${name}" has a space in it; for several keys repeat --${option}, or separate them by ` +
          `commas in ${environmentName(option)}.`,
      );
    const problem = keyProblem(entry);
    if (problem !== undefined) throw new ConfigError(`The ${kind} key "${name}" ${problem}`);
    const same = seen.get(sha256);
    if (same !== undefined)
      throw new ConfigError(
        `The ${kind} keys "${same}" and "${name}" are the same key; leave one of them out.`,
      );
    seen.set(sha256, name);
  }
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, MOST_LISTED).map((name) => `"${name}"`);
  return `${shown.join(", ")}${names.length > MOST_LISTED ? ", …" : ""}`;
}
