/** What the operator gives each API key: its share, its class and its caps, from `--key-policy` or the file. */
import { DEFAULT_POLICY } from "../../engine/sharing.ts";
import type { FairnessConfig, OwnerPolicy, PriorityClass } from "../../engine/sharing.ts";
import { PRIORITY_NAMES, readPriority } from "../openai/priority-field.ts";
import type { PriorityName } from "../openai/priority-field.ts";
import { choice, numberOf } from "./value-kinds.ts";
import type { ValueKind } from "./value-kinds.ts";

/** Stands for every key without a policy of its own. */
const EVERYBODY = "*";

interface KeyPolicy {
  readonly owner: OwnerPolicy;
  /** Undefined where nothing is said of it. */
  readonly best: PriorityClass | undefined;
}

export class KeyPolicies {
  readonly #policies: ReadonlyMap<string, KeyPolicy>;

  /** @param policies By the name of the key; `*` is everybody else. */
  constructor(policies: ReadonlyMap<string, KeyPolicy>) {
    this.#policies = policies;
  }

  /** Of the keys that have one of their own. */
  get names(): readonly string[] {
    return [...this.#policies.keys()].filter((name) => name !== EVERYBODY);
  }

  /** The highest class that this key's requests may have; undefined where nothing is said of it. */
  bestClass(owner: string): PriorityClass | undefined {
    return (this.#policies.get(owner) ?? this.#policies.get(EVERYBODY))?.best;
  }

  get fairness(): Pick<FairnessConfig, "owners" | "others"> {
    const others = this.#policies.get(EVERYBODY)?.owner ?? DEFAULT_POLICY;
    const named = [...this.#policies].filter(([name]) => name !== EVERYBODY);
    return { owners: new Map(named.map(([name, { owner }]) => [name, owner])), others };
  }
}

export const NO_POLICIES = new KeyPolicies(new Map());

type Limit = Exclude<keyof OwnerPolicy, "weight">;

/** Names in the option of what a policy limits. */
const LIMITS: Readonly<Record<string, Limit>> = {
  running: "maxRunning",
  queued: "maxQueued",
  "queued-tokens": "maxQueuedTokens",
};

const MOST = 1e9;
const CLASS_NAMES = choice<PriorityName>(...PRIORITY_NAMES);

/**
 * `NAME:weight=2:class=low:running=4:queued=20:queued-tokens=50000`, repeated or separated by commas; in the file
 * also an object of such objects by name.
 */
export const keyPolicies: ValueKind<KeyPolicies> = {
  placeholder: "policy",
  expected:
    "NAME:weight=1:class=normal:running=4:queued=20:queued-tokens=50000 with any of these, NAME being a key's or *",
  repeatable: true,
  read(raw) {
    const policies = new Map<string, KeyPolicy>();
    for (const entry of entriesOf(raw)) {
      const policy = entry && policyOf(entry.settings);
      if (entry === undefined || policy === undefined || policies.has(entry.name)) return undefined;
      policies.set(entry.name, policy);
    }
    return new KeyPolicies(policies);
  },
};

interface Entry {
  readonly name: string;
  readonly settings: readonly (readonly [name: string, value: unknown])[];
}

/** Undefined for what is none. */
function entriesOf(raw: unknown): (Entry | undefined)[] {
  const items = typeof raw === "string" ? raw.split(",").filter((item) => item.trim() !== "") : raw;
  if (Array.isArray(items))
    return items.map((item) => (typeof item === "string" ? entryOf(item) : undefined));
  if (typeof items !== "object" || items === null) return [undefined];
  return Object.entries(items).map(([name, settings]: [string, unknown]) =>
    typeof settings === "object" && settings !== null
      ? { name, settings: Object.entries(settings) }
      : undefined,
  );
}

function entryOf(text: string): Entry | undefined {
  const [name = "", ...settings] = text.trim().split(":");
  if (name === "" || settings.length === 0) return undefined;
  return {
    name,
    settings: settings.map((setting) => {
      const at = setting.indexOf("=");
      return [setting.slice(0, Math.max(0, at)), setting.slice(at + 1)];
    }),
  };
}

function policyOf(settings: Entry["settings"]): KeyPolicy | undefined {
  const owner: { -readonly [K in keyof OwnerPolicy]: number } = { ...DEFAULT_POLICY };
  let best: PriorityClass | undefined;
  for (const [name, value] of settings) {
    const limit = Object.hasOwn(LIMITS, name) ? LIMITS[name] : undefined;
    const number = numberOf(value);
    if (name === "class") {
      best = readPriority(CLASS_NAMES.read(value));
      if (best === undefined) return undefined;
    } else if (name === "weight") {
      if (!(number >= 0.001 && number <= 1000)) return undefined;
      owner.weight = number;
    } else if (limit !== undefined && Number.isInteger(number) && number >= 0 && number <= MOST) {
      // A key that may never run could only wait.
      if (limit === "maxRunning" && number === 0) return undefined;
      owner[limit] = number;
    } else return undefined;
  }
  return { owner, best };
}
