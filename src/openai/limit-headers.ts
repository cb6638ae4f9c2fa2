/** The headers that tell a client what it may still ask for, and when to come back, in the words of OpenAI's clients. */
import type { EngineError } from "../../engine/errors.ts";
import type { Allowance } from "../../engine/sharing.ts";

/** All that `allowanceHeaders` may set. */
export const LIMIT_HEADERS = ["limit", "remaining", "reset"].flatMap((what) =>
  ["requests", "tokens"].map((of) => `x-ratelimit-${what}-${of}`),
);

/** `x-ratelimit-*`, from what the engine counts: requests that may be open, and prompt tokens that may wait. */
export function allowanceHeaders(allowance: Allowance): Record<string, string> {
  const { requests, requestsLeft, requestsResetMs, tokens, tokensLeft, tokensResetMs } = allowance;
  const headers = {
    "x-ratelimit-limit-requests": String(requests),
    "x-ratelimit-remaining-requests": String(requestsLeft),
    "x-ratelimit-reset-requests": duration(requestsResetMs),
  };
  if (tokens === undefined) return headers;
  return {
    ...headers,
    "x-ratelimit-limit-tokens": String(tokens),
    "x-ratelimit-remaining-tokens": String(tokensLeft ?? 0),
    "x-ratelimit-reset-tokens": duration(tokensResetMs ?? 0),
  };
}

/** `retry-after` in seconds and `retry-after-ms`; none where the engine says nothing of it. */
export function retryHeaders({ details }: EngineError): Record<string, string> {
  const ms = details?.["retryAfterMs"];
  if (ms === undefined) return {};
  return {
    "retry-after": String(Math.max(1, Math.ceil(ms / 1000))),
    "retry-after-ms": String(Math.max(1, Math.ceil(ms))),
  };
}

/** As Go and OpenAI write it: `250ms`, `1.5s`, `6m0s`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))}ms`;
  const seconds = Math.round(ms) / 1000;
  if (seconds < 60) return `${seconds}s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  const rest = `${minutes % 60}m${whole % 60}s`;
  return minutes < 60 ? rest : `${Math.floor(minutes / 60)}h${rest}`;
}
