/** What the tables of options hold of each option. */
import type { ValueKind } from "./value-kinds.ts";

export interface OptionSpec<T, D extends T | undefined = T | undefined> {
  readonly kind: ValueKind<T>;
  readonly default: D;
  /** Meaning, unit and what the default does. */
  readonly description: string;
  /** Where the environment variable is not `WEFT_` and the name. */
  readonly env?: string;
}

export function option<T>(
  kind: ValueKind<T>,
  fallback: T,
  description: string,
  env?: string,
): OptionSpec<T, T>;
export function option<T>(
  kind: ValueKind<T>,
  fallback: undefined,
  description: string,
): OptionSpec<T, undefined>;
export function option<T>(
  kind: ValueKind<T>,
  fallback: T | undefined,
  description: string,
  env?: string,
): OptionSpec<T> {
  return { kind, default: fallback, description, ...(env === undefined ? {} : { env }) };
}
