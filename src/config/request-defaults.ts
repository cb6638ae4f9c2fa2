/** `--request-default`: what requests ask for that say nothing of it, in place of OpenAI's defaults and the model's. */
import { numberOf } from "./value-kinds.ts";
import type { ValueKind } from "./value-kinds.ts";

interface Range {
  readonly least: number;
  readonly most: number;
  readonly whole?: boolean;
}

/** As a request's own values are bounded. */
const RANGES = {
  temperature: { least: 0, most: 2 },
  top_p: { least: 0, most: 1 },
  top_k: { least: -1, most: 2 ** 31 - 1, whole: true },
  min_p: { least: 0, most: 1 },
  repeat_penalty: { least: 0.01, most: 100 },
  presence_penalty: { least: -2, most: 2 },
  frequency_penalty: { least: -2, most: 2 },
  seed: { least: 0, most: 2 ** 32 - 1, whole: true },
  max_tokens: { least: 1, most: 2 ** 31 - 1, whole: true },
} as const satisfies Readonly<Record<string, Range>>;

const SWITCHES = ["enable_thinking"] as const;

type DefaultNumber = keyof typeof RANGES;
type DefaultSwitch = (typeof SWITCHES)[number];

export type RequestDefaults = Readonly<
  Partial<Record<DefaultNumber, number> & Record<DefaultSwitch, boolean>>
>;

/** `FIELD=VALUE`, repeated or separated by commas; in the file also an object. */
export const requestDefaults: ValueKind<RequestDefaults> = {
  placeholder: "field",
  expected: `FIELD=VALUE, each FIELD once, with a value that a request may have: ${[...Object.keys(RANGES), ...SWITCHES].join(", ")}`,
  repeatable: true,
  read(raw) {
    const entries = entriesOf(raw)?.map(([field, value]) => [field, readValue(field, value)] as const);
    if (entries === undefined || entries.some(([, value]) => value === undefined)) return undefined;
    const defaults: RequestDefaults = Object.fromEntries(entries);
    return Object.keys(defaults).length === entries.length ? defaults : undefined;
  },
};

function entriesOf(raw: unknown): (readonly [field: string, value: unknown])[] | undefined {
  const items: unknown = typeof raw === "string" ? raw.split(",").filter((item) => item.trim() !== "") : raw;
  if (typeof items !== "object" || items === null) return undefined;
  if (!Array.isArray(items)) return Object.entries(items);
  return items.map((item: unknown) => {
    const [, field = "", value] = /^([a-z_]+)=(.+)$/.exec(typeof item === "string" ? item.trim() : "") ?? [];
    return [field, value];
  });
}

/** @returns Undefined for a value that no request may have, and for an unknown field. */
function readValue(field: string, raw: unknown): number | boolean | undefined {
  if (SWITCHES.some((name) => name === field)) {
    const said = String(raw);
    return said === "true" || said === "false" ? said === "true" : undefined;
  }
  if (!Object.hasOwn(RANGES, field)) return undefined;
  const { least, most, whole = false }: Range = RANGES[field as DefaultNumber];
  const value = numberOf(raw);
  return value >= least && value <= most && (!whole || Number.isInteger(value)) ? value : undefined;
}
