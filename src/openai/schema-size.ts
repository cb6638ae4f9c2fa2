/** How large the schemas of a request may be, before anything walks through them. */
import type { Limits } from "../config/limits.ts";
import { ApiError } from "./api-error.ts";
import type { ApiErrorCode } from "./api-error.ts";

export interface SizedSchema {
  readonly schema: unknown;
  /** Whose it is, in an error: `function 'f'`. */
  readonly owner: string;
  readonly param: string;
  readonly code: Extract<ApiErrorCode, "invalid_schema" | "invalid_function_parameters">;
}

/** @throws {ApiError} 400 for a schema that is longer, as JSON, than it may be. */
export function checkSchemaSize({ schema, owner, param, code }: SizedSchema, limits: Limits): void {
  const most = limits["max-schema-characters"];
  if (JSON.stringify(schema).length <= most) return;
  throw new ApiError(
    code,
    `Invalid schema for ${owner}: the schema is too large: it has more than ${most} characters ` +
      "(--max-schema-characters).",
    param,
  );
}
