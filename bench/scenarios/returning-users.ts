/**
 * Users who arrive at given times whatever becomes of the others, and who come back when a refusal tells them to, as
 * OpenAI's clients do, until they are let in or have lost patience.
 */
import type { RequestRecord, StreamedRequest } from "../client.ts";
import { MOST_OPEN } from "../closed-loop.ts";
import { Gate } from "./gate.ts";
import type { ScenarioTurn } from "./scenario.ts";

export interface Visit {
  /** When the user first asked, in ms of the clock. */
  readonly arrivalMs: number;
  readonly refusals: readonly Refusal[];
  /** The request that was not refused, whatever became of it; undefined when there was none, sent or not. */
  readonly answer: RequestRecord | undefined;
}

export interface Refusal {
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
  /** After so long since the start nobody asks any more. */
  readonly patienceMs: number;
  readonly request: (user: number) => StreamedRequest;
}

/** The name under which OpenAI's clients count their retries. */
const RETRY_HEADER = "x-stainless-retry-count";
/** From a refusal to the next try, whatever is told: one that says 0 must not be asked without a pause. */
const SHORTEST_RETURN_MS = 100;
/** A server that answers at once must not gather records without end. */
const MOST_USERS = 100_000;
const MOST_RETURNS = 1000;

export interface UsersRun {
  readonly visits: readonly Visit[];
  /** How long users arrived: as planned, or less when there were too many of them. */
  readonly arrivedMs: number;
  /** Requests that waited at the client because as many as it can have were open. */
  readonly held: number;
}

/** What all visits of a run have in common. */
interface Surroundings {
  /** Of the clock: after this nobody asks any more. */
  readonly lastMs: number;
  readonly until: (atMs: number) => Promise<void>;
  readonly gate: Gate;
}

/** Ends when the last user has been answered. Never rejects. */
export async function runUsers(turn: ScenarioTurn, plan: UsersPlan): Promise<UsersRun> {
  const { clock } = turn;
  const startMs = clock.nowMs();
  const until = async (atMs: number): Promise<void> => {
    const waitMs = atMs - clock.nowMs();
    if (waitMs > 0) await new Promise<void>((resolve) => void clock.after(waitMs, resolve));
  };
  const gate = new Gate(MOST_OPEN);
  const surroundings = { lastMs: startMs + plan.patienceMs, until, gate };
  const visits: Promise<Visit>[] = [];
  while (visits.length < MOST_USERS) {
    const user = visits.length;
    const arrivalMs = plan.arrivalMs(user);
    if (arrivalMs >= plan.durationMs) break;
    await until(startMs + arrivalMs);
    visits.push(visit(turn, plan.request(user), surroundings));
  }
  const arrivedMs = visits.length < MOST_USERS ? plan.durationMs : clock.nowMs() - startMs;
  return { visits: await Promise.all(visits), arrivedMs, held: gate.held };
}

async function visit(
  { target, clock, send }: ScenarioTurn,
  request: StreamedRequest,
  { lastMs, until, gate }: Surroundings,
): Promise<Visit> {
  const arrivalMs = clock.nowMs();
  const refusals: Refusal[] = [];
  while (refusals.length <= MOST_RETURNS) {
    const returning = refusals.length > 0 ? { [RETRY_HEADER]: String(refusals.length) } : {};
    const asked = await gate.pass(async () => {
      const sentMs = clock.nowMs();
      if (sentMs > lastMs) return undefined;
      const headers = { ...request.headers, ...returning };
      return { sentMs, record: await send(target, { ...request, headers }) };
    });
    if (asked === undefined) break;
    const { sentMs, record } = asked;
    if (!isRefusal(record)) return { arrivalMs, refusals, answer: record };
    const atMs = clock.nowMs();
    const toldMs = record.retryAfterMs;
    refusals.push({ sentMs, atMs, toldMs });
    if (toldMs === undefined) break;
    const returnMs = atMs + Math.max(toldMs, SHORTEST_RETURN_MS);
    if (returnMs > lastMs) break;
    await until(returnMs);
  }
  return { arrivalMs, refusals, answer: undefined };
}

/** What says that the server is full or the client has had its share, not that the request is wrong. */
function isRefusal({ error }: RequestRecord): boolean {
  return error?.kind === "http_429" || error?.kind === "http_503";
}
