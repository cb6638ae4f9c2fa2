/** Settles every option's value: command line over environment over file over default. */
import { readFileSync } from "node:fs";
import { checkKeys } from "./check-keys.ts";
import { nearestName } from "../../models/nearest-name.ts";
import { ConfigError } from "./config-error.ts";
import { environmentName, serveOptionNames, serveOptions } from "./options.ts";
import type { OptionSpec } from "./option-spec.ts";
import { jsonProblem } from "./json-problem.ts";
import type { ServeOptionName, ServeValues } from "./options.ts";

type ValueSource = "flag" | "env" | "file" | "default";

export interface ConfigInputs {
  /** Options as given on the command line, by name; undefined where not given. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Path of the JSON file, if one was named. */
  readonly file: string | undefined;
}

export interface LoadedConfig {
  readonly values: ServeValues;
  readonly sources: Readonly<Record<ServeOptionName, ValueSource>>;
}

/** Longer values are cut in messages. */
const MAX_SHOWN_CHARS = 80;
/** A configuration is a page or two; a larger file is a mistake, such as a model. */
const MAX_FILE_BYTES = 1024 * 1024;

/** @throws {ConfigError} For a value that is not valid, an unknown key in the file, or a file that cannot be read. */
export function loadConfig(inputs: ConfigInputs): LoadedConfig {
  const file = inputs.file === undefined ? {} : readConfigFile(inputs.file);
  const values: Record<string, unknown> = {};
  const sources: Partial<Record<ServeOptionName, ValueSource>> = {};
  for (const name of serveOptionNames) {
    const { value, source } = settle(name, inputs, file);
    values[name] = value;
    sources[name] = source;
  }
  const loaded = { values, sources } as LoadedConfig;
  checkTogether(loaded.values);
  return loaded;
}

/** Whether only programs on this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);
}

function settle(
  name: ServeOptionName,
  inputs: ConfigInputs,
  file: Readonly<Record<string, unknown>>,
): { value: unknown; source: ValueSource } {
  const variable = environmentName(name);
  const inEnvironment = inputs.env[variable];
  if (inputs.flags[name] !== undefined) {
    return { value: read(name, inputs.flags[name], `--${name}`), source: "flag" };
  }
  // An empty variable is how a shell or a unit file says "not set".
  if (inEnvironment !== undefined && inEnvironment !== "") {
    return { value: read(name, inEnvironment, variable), source: "env" };
  }
  if (file[name] !== undefined && file[name] !== null) {
    return { value: read(name, file[name], `"${name}" in ${inputs.file}`), source: "file" };
  }
  return { value: serveOptions[name].default, source: "default" };
}

function read(name: ServeOptionName, raw: unknown, where: string): unknown {
  const { kind }: OptionSpec<unknown> = serveOptions[name];
  // Whatever was mistyped in place of a key may be one.
  const shown =
    name === "api-key" || name === "admin-key"
      ? "something else"
      : JSON.stringify(raw).slice(0, MAX_SHOWN_CHARS);
  if (kind.repeatable && typeof raw === "string" && looksLikeArray(raw)) {
    const texts = textsOf(raw);
    if (texts === undefined)
      throw new ConfigError(
        `Expected ${where}, which begins with "[", to be a JSON array of texts, such as ["one", "two"], but got ${shown}.`,
      );
    return read(name, texts, where);
  }
  const value = kind.read(raw);
  if (value !== undefined) return value;
  throw new ConfigError(`Expected ${where} to be ${kind.expected}, but got ${shown}.`);
}

/** An IPv6 address stands in brackets too. */
function looksLikeArray(text: string): boolean {
  return /^\s*\[(?![\da-f.]*:[\da-f:.]*\])/i.test(text);
}

/** Undefined for what is no JSON array of texts. */
function textsOf(json: string): string[] | undefined {
  try {
    const items: unknown = JSON.parse(json);
    return Array.isArray(items) && items.every((item) => typeof item === "string") ? items : undefined;
  } catch {
    return undefined;
  }
}

function readConfigFile(path: string): Readonly<Record<string, unknown>> {
  let content: string;
  try {
    content = readFileSync(path, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
    throw new ConfigError(`Cannot read the configuration file ${path} (${code}); check --config.`);
  }
  if (content.length > MAX_FILE_BYTES)
    throw new ConfigError(`${path} is too large for a configuration file.`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(content);
  } catch {
    throw new ConfigError(`${path} is not JSON: ${jsonProblem(content)}.`);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new ConfigError(`${path} must hold one JSON object, such as {"port": 9338}.`);
  }
  for (const key of Object.keys(parsed)) {
    if (Object.hasOwn(serveOptions, key)) continue;
    const meant = nearestName(key, serveOptionNames);
    const advice =
      meant === undefined
        ? "the keys are the flags without their dashes, see --help"
        : `did you mean "${meant}"?`;
    throw new ConfigError(
      `${path} has the unknown key ${JSON.stringify(key.slice(0, MAX_SHOWN_CHARS))}; ${advice}`,
    );
  }
  return { ...parsed };
}

function checkTogether(values: ServeValues): void {
  checkKeys(values);
  if (values["spill-dir"] !== undefined && values["spill-size"] === 0)
    throw new ConfigError(
      "--spill-dir says where to keep what --spill-size 0 does not keep: leave one of them out.",
    );
  if (values["reserve-slots"] >= values.slots)
    throw new ConfigError(
      `--reserve-slots ${values["reserve-slots"]} leaves no slot of --slots ${values.slots} to long prompts: it has to be less.`,
    );
  if (values["pin-prompt"].length > 0 && values["spill-size"] === 0)
    throw new ConfigError(
      "--pin-prompt keeps computed prompts in files, and --spill-size 0 keeps none: leave one of them out.",
    );
  if (isLoopback(values.host) || values["api-key"].length > 0 || values["insecure-no-auth"]) return;
  throw new ConfigError(
    `--host ${values.host} lets other machines in: set WEFT_API_KEYS, or add --insecure-no-auth if that is meant.`,
  );
}
