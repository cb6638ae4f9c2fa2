/** Names that a request gives to tools and schemas. */
import { ApiError } from "./api-error.ts";
import { checkTextLength } from "./validation.ts";

/** What a name may be: how long, in UTF-16 units, and a regular expression. */
export interface NameRule {
  readonly maxLength: number;
  readonly pattern: string;
}

/** OpenAI's own rule. */
export const SCHEMA_NAME: NameRule = { maxLength: 64, pattern: "^[a-zA-Z0-9_-]+$" };

/** @throws {ApiError} 400 for a name that is too long or has other characters, with the path of its field. */
export function checkName(name: string, param: string, { maxLength, pattern }: NameRule): void {
  checkTextLength(name.length, maxLength, param);
  if (new RegExp(pattern).test(name)) return;
  throw new ApiError(
    "invalid_value",
    `Invalid '${param}': string does not match pattern. Expected a string that matches the pattern '${pattern}'.`,
    param,
  );
}
