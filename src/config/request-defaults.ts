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

type DefaultField = keyof typeof RANGES;

export type RequestDefaults = Readonly<Partial<Record<DefaultField, number>>>;

/** `FIELD=VALUE`, repeated or separated by commas; in the file also an object. */
export const requestDefaults: ValueKind<RequestDefaults> = {
  placeholder: "field",
  expected: `FIELD=VALUE, each FIELD once, with a value that a request may have: ${Object.keys(RANGES).join(", ")}`,
  repeatable: true,
  read(raw) {
    const entries = entriesOf(raw)?.map(([field, value]) => [field, numberOf(value)] as const);
    if (entries === undefined || !entries.every(([field, value]) => isAllowed(field, value)))
      return undefined;
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

function isAllowed(field: string, value: number): boolean {
  if (!Object.hasOwn(RANGES, field)) return false;
  const { least, most, whole = false }: Range = RANGES[field as DefaultField];
  return value >= least && value <= most && (!whole || Number.isInteger(value));
}
