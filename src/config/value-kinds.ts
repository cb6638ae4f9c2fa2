/** The kinds of values an option can have, and how each is read from text or JSON. */

import { readTime } from "../../models/command-line/time-text.ts";
import type { TimeUnit } from "../../models/command-line/time-text.ts";

/** Text from the command line or the environment, or a value of the JSON file. */
type RawValue = unknown;

export interface ValueKind<T> {
  /** What stands for the value in `--help`; undefined for a switch, which needs none. */
  readonly placeholder: string | undefined;
  /** Completes the sentence "expected … to be". */
  readonly expected: string;
  /** Given more than once, each value counts. */
  readonly repeatable: boolean;
  /** Undefined when it is not such a value. */
  read(raw: RawValue): T | undefined;
  /** As users write it; absent: as JavaScript does. */
  show?(value: T): string;
}

export function integer(placeholder: string, least: number, most: number): ValueKind<number> {
  return {
    placeholder,
    expected: `an integer from ${least} to ${most}`,
    repeatable: false,
    read(raw) {
      const value = numberOf(raw);
      return Number.isInteger(value) && value >= least && value <= most ? value : undefined;
    },
  };
}

/** A time, in `unit` where a number stands alone. */
export function time(unit: TimeUnit, least: number, most: number): ValueKind<number> {
  const show = (value: number): string => `${value}${unit}`;
  return {
    placeholder: unit === "ms" ? "ms" : "seconds",
    expected: `a time from ${show(least)} to ${show(most)}, such as 500ms or 2s`,
    repeatable: false,
    read(raw) {
      if (typeof raw !== "string" && typeof raw !== "number") return undefined;
      const value = readTime(String(raw), unit) ?? NaN;
      return value >= least && value <= most ? value : undefined;
    },
    show,
  };
}

/** An amount that need not be whole. */
export function amount(placeholder: string, least: number, most: number): ValueKind<number> {
  return {
    placeholder,
    expected: `a number from ${least} to ${most}`,
    repeatable: false,
    read(raw) {
      const value = numberOf(raw);
      return value >= least && value <= most ? value : undefined;
    },
  };
}

const UNITS = ["", "K", "M", "G", "T"];

/** A number of bytes, which may have a binary unit: 500M is 500 times 1024 times 1024. */
export function byteSize(placeholder: string): ValueKind<number> {
  return {
    placeholder,
    expected: "a number of bytes, such as 500M or 2G",
    repeatable: false,
    read(raw) {
      if (typeof raw !== "string" && typeof raw !== "number") return undefined;
      const [, digits = "", unit = ""] = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(String(raw).trim()) ?? [];
      const bytes = Math.floor(Number(digits) * 1024 ** UNITS.indexOf(unit.toUpperCase()));
      return digits !== "" && Number.isSafeInteger(bytes) ? bytes : undefined;
    },
  };
}

export function choice<const T extends string>(...values: readonly T[]): ValueKind<T> {
  return {
    placeholder: values.join("|"),
    expected: `one of ${values.join(", ")}`,
    repeatable: false,
    read: (raw) => values.find((value) => value === raw),
  };
}

export function text(placeholder: string): ValueKind<string> {
  return {
    placeholder,
    expected: "a text that is not empty",
    repeatable: false,
    read: (raw) => (typeof raw === "string" && raw.trim() !== "" ? raw.trim() : undefined),
  };
}

/** Several texts: repeated on the command line, separated by commas or an array in the environment, an array in the file. */
export function list(placeholder: string): ValueKind<readonly string[]> {
  return {
    placeholder,
    expected: "a list of texts",
    repeatable: true,
    read(raw) {
      const items = typeof raw === "string" ? raw.split(",") : raw;
      if (!Array.isArray(items) || !items.every((item) => typeof item === "string")) return undefined;
      return items.map((item) => item.trim()).filter((item) => item !== "");
    },
  };
}

/** How a switch is written, in each place where it can be. */
export const SWITCH_WORDS: ReadonlyMap<RawValue, boolean> = new Map([
  ["on", true],
  ["true", true],
  ["1", true],
  ["off", false],
  ["false", false],
  ["0", false],
]);

export const flag: ValueKind<boolean> = {
  placeholder: undefined,
  expected: "on or off",
  repeatable: false,
  read: (raw) => (typeof raw === "boolean" ? raw : SWITCH_WORDS.get(raw)),
};

/** NaN for what is no number. */
export function numberOf(raw: RawValue): number {
  if (typeof raw === "number") return raw;
  return typeof raw === "string" && /^-?\d+(\.\d+)?$/.test(raw.trim()) ? Number(raw) : Number.NaN;
}
