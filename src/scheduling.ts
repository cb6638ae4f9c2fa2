/** How soon a request wants its answer: its class, which its key bounds, and its deadlines, from headers and the body. */
import { PriorityClass } from "../engine/sharing.ts";
import type { AppDeps } from "./deps.ts";
import { ApiError } from "./openai/api-error.ts";
import { priorityField, readPriority } from "./openai/priority-field.ts";
import type { AppContext } from "./routes/env.ts";

export const PRIORITY_HEADER = "x-request-priority";
export const DEADLINE_HEADER = "x-request-deadline-ms";
export const TTFT_DEADLINE_HEADER = "x-request-ttft-deadline-ms";

/** Longer deadlines say nothing: a day. */
const LONGEST_DEADLINE_MS = 86_400_000;

/** Many libraries keep to told times below a minute; told a longer one they ask at once, and soon give up. */
const LONGEST_RETURN_MS = 59_000;

export interface Scheduling {
  /** Of the HTTP request. */
  readonly requestId: string;
  /** What the header asks for. */
  readonly asked: PriorityClass | undefined;
  /** The highest class that the key may have. */
  readonly best: PriorityClass;
  /** On the server's clock, in ms; undefined is never. */
  readonly firstTokenByMs: number | undefined;
  readonly endByMs: number | undefined;
  /** The longest told time, in ms, that its client keeps to when it is refused; undefined is any. */
  readonly returnsWithinMs: number | undefined;
}

/** @throws {ApiError} 400 that names the header. */
export function readScheduling(c: AppContext, { config, clock }: AppDeps): Scheduling {
  const nowMs = clock.nowMs();
  const deadline = (name: string): number | undefined => {
    const ms = readMs(c.req.header(name), name);
    return ms === undefined ? undefined : nowMs + ms;
  };
  return {
    requestId: c.get("requestId"),
    asked: readPriorityHeader(c.req.header(PRIORITY_HEADER)),
    best: bestClass(config, c.get("owner")),
    firstTokenByMs: deadline(TTFT_DEADLINE_HEADER),
    endByMs: deadline(DEADLINE_HEADER),
    returnsWithinMs: returnsSoonOnly(c) ? LONGEST_RETURN_MS : undefined,
  };
}

/** The libraries of OpenAI and Anthropic, which count their tries in a header, and Vercel's. */
function returnsSoonOnly(c: AppContext): boolean {
  const agent = c.req.header("user-agent") ?? "";
  return c.req.header("x-stainless-retry-count") !== undefined || /\bai-sdk\//.test(agent);
}

/** Among several keys, only the operator lets one go ahead of the others. */
export function bestClass({ apiKeys, keyPolicies }: AppDeps["config"], owner: string): PriorityClass {
  const names = new Set(apiKeys.map(({ name }) => name));
  return keyPolicies?.bestClass(owner) ?? (names.size > 1 ? PriorityClass.normal : PriorityClass.high);
}

/** The body's wish goes before the header's; neither goes beyond what the key may have. */
export function classOf({ asked, best }: Scheduling, field: PriorityClass | undefined): PriorityClass {
  const wanted = field ?? asked ?? PriorityClass.normal;
  return wanted < best ? best : wanted;
}

/** What asks in vain for a class that the key may not have: the body's field or the header. */
export function vainPriority({ asked, best }: Scheduling, field: PriorityClass | undefined): string[] {
  const wanted = field ?? asked;
  if (wanted === undefined || wanted >= best) return [];
  return [field === undefined ? PRIORITY_HEADER : "priority"];
}

function readPriorityHeader(value: string | undefined): PriorityClass | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  const parsed = priorityField.safeParse(/^[+-]?\d{1,9}$/.test(text) ? Number(text) : text);
  if (parsed.success) return readPriority(parsed.data);
  throw wrongHeader(PRIORITY_HEADER, 'an integer, "high", "normal", "low" or "background"');
}

function readMs(value: string | undefined, name: string): number | undefined {
  if (value === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(value.trim()) ? Number(value) : 0;
  if (ms < 1 || ms > LONGEST_DEADLINE_MS)
    throw wrongHeader(name, `a whole number of milliseconds from 1 to ${LONGEST_DEADLINE_MS}`);
  return ms;
}

function wrongHeader(name: string, expected: string): ApiError {
  return new ApiError("invalid_value", `Invalid header '${name}': expected ${expected}.`, name);
}
