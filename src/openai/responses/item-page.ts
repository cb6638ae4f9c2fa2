/** One page of a list of items. */
import { ApiError } from "../api-error.ts";
import { notOneOf } from "../validation.ts";
import type { Item } from "./items.ts";

const DEFAULT_LIMIT = 20;
const MAX_LIMIT = 100;
const ORDERS = ["asc", "desc"] as const;
/** Longer values are cut in messages. */
const MOST_SHOWN = 100;

export interface PageQuery {
  readonly limit: number;
  readonly order: (typeof ORDERS)[number];
  /** The id of the item before the first. */
  readonly after: string | undefined;
}

/**
 * @param query A parameter of the URL by its name.
 * @throws {ApiError} 400
 */
export function readPageQuery(query: (name: string) => string | undefined): PageQuery {
  const limit = readWhole(query("limit"), "limit") ?? DEFAULT_LIMIT;
  if (limit < 1 || limit > MAX_LIMIT) {
    throw new ApiError(
      "invalid_value",
      `Invalid 'limit': expected a value from 1 to ${MAX_LIMIT}, but got ${limit} instead.`,
      "limit",
    );
  }
  const order = query("order") ?? "desc";
  const known = ORDERS.find((name) => name === order);
  if (known === undefined) throw notOneOf("order", ORDERS, order);
  return { limit, order: known, after: query("after") };
}

/** @throws {ApiError} 400 for text that is no whole number. */
export function readWhole(text: string | undefined, param: string): number | undefined {
  if (text === undefined || text === "") return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new ApiError(
    "invalid_type",
    `Invalid type for '${param}': expected an integer from 0 to 999999999, but got '${text.slice(0, MOST_SHOWN)}' instead.`,
    param,
  );
}

/** @throws {ApiError} 400 for text that is neither `true` nor `false`. */
export function readFlag(text: string | undefined, param: string): boolean {
  if (text === undefined || text === "" || text === "false") return false;
  if (text === "true") return true;
  throw new ApiError(
    "invalid_type",
    `Invalid type for '${param}': expected true or false, but got '${text.slice(0, MOST_SHOWN)}' instead.`,
    param,
  );
}

/** @throws {ApiError} 400 when `after` is none of the items. */
export function itemPage(items: readonly Item[], { limit, order, after }: PageQuery): object {
  const ordered = order === "asc" ? items : [...items].reverse();
  let start = 0;
  if (after !== undefined) {
    start = ordered.findIndex(({ id }) => id === after) + 1;
    if (start === 0) {
      throw new ApiError("invalid_value", `Item with id '${after.slice(0, 200)}' not found.`, "after");
    }
  }
  const data = ordered.slice(start, start + limit);
  return {
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: start + data.length < ordered.length,
  };
}
