/**
 * Users who arrive at given times whatever becomes of the others, and who come back when a refusal tells them to, as
 * OpenAI's clients do, until they are let in or have lost patience.
 */
import type { RequestRecord, StreamedRequest } from "../client.ts";
import type { ScenarioTurn } from "./scenario.ts";

export interface Visit {
  /** When the user first asked, in ms of the clock. */
  readonly arrivalMs: number;
  readonly refusals: readonly Refusal[];
  /** The request that was not refused, whatever became of it; undefined when there was none. */
  readonly answer: RequestRecord | undefined;
}

export interface Refusal {
  readonly record: RequestRecord;
  /** When it was sent and when it was answered. */
  readonly sentMs: number;
  readonly atMs: number;
  /** Undefined when the server did not say when to come back, and nobody did. */
  readonly toldMs: number | undefined;
}

export interface UsersPlan {
  /** When each user arrives, in ms after the start; ascending. */
  readonly arrivalMs: (user: number) => number;
  /** How long users arrive. */
  readonly durationMs: number;
  /** After so long since the start nobody comes back. */
  readonly patienceMs: number;
  readonly request: (user: number) => StreamedRequest;
}

/** The name under which OpenAI's clients count their retries. */
const RETRY_HEADER = "x-stainless-retry-count";
/** A server that answers at once must not gather records without end. */
const MOST_USERS = 100_000;
const MOST_RETURNS = 1000;

/** Ends when the last user has been answered. Never rejects. */
export async function runUsers(turn: ScenarioTurn, plan: UsersPlan): Promise<Visit[]> {
  const { clock } = turn;
  const startMs = clock.nowMs();
  const until = async (atMs: number): Promise<void> => {
    const waitMs = atMs - clock.nowMs();
    if (waitMs > 0) await new Promise<void>((resolve) => void clock.after(waitMs, resolve));
  };
  const visits: Promise<Visit>[] = [];
  for (let user = 0; user < MOST_USERS; user++) {
    const arrivalMs = plan.arrivalMs(user);
    if (arrivalMs >= plan.durationMs) break;
    await until(startMs + arrivalMs);
    visits.push(visit(turn, plan.request(user), { startMs, patienceMs: plan.patienceMs, until }));
  }
  return Promise.all(visits);
}

async function visit(
  { target, clock, send }: ScenarioTurn,
  request: StreamedRequest,
  {
    startMs,
    patienceMs,
    until,
  }: {
    readonly startMs: number;
    readonly patienceMs: number;
    readonly until: (atMs: number) => Promise<void>;
  },
): Promise<Visit> {
  const arrivalMs = clock.nowMs();
  const refusals: Refusal[] = [];
  while (refusals.length <= MOST_RETURNS) {
    const sentMs = clock.nowMs();
    const returning = refusals.length > 0 ? { [RETRY_HEADER]: String(refusals.length) } : {};
    const record = await send(target, { ...request, headers: { ...request.headers, ...returning } });
    if (!isRefusal(record)) return { arrivalMs, refusals, answer: record };
    const atMs = clock.nowMs();
    const toldMs = record.retryAfterMs;
    refusals.push({ record, sentMs, atMs, toldMs });
    if (toldMs === undefined || atMs + toldMs > startMs + patienceMs) break;
    await until(atMs + toldMs);
  }
  return { arrivalMs, refusals, answer: undefined };
}

/** What says that the server is full or the client has had its share, not that the request is wrong. */
function isRefusal({ error }: RequestRecord): boolean {
  return error?.kind === "http_429" || error?.kind === "http_503";
}
