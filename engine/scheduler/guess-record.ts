/**
 * How guesses have kept what was promised of their time, and what the draft model may still spend.
 *
 * A promise is made of many estimates, and all of them may be wrong at once. So the time that a step with guesses took is
 * compared with it, and what guesses promise next is worth as much less. While none are made this is slowly forgotten, so
 * that they are tried again, now and then: a vain try of a few steps costs less than never finding out. It is about the
 * machine alone: how often guesses are right is each request's own affair.
 */
import { withDrawMs } from "./cost-model.ts";
import type { PlannedCall, SchedulerState } from "./types.ts";

/** Weight of the newest step with guesses, and of the newest without. */
const NEWEST = 1 / 12;
/** With each step that guesses nothing, what is held against guesses shrinks by such a part of it. */
const FORGOTTEN = 1 / 2048;
/** One step that stalled is no more than so many usual ones. */
const MOST_RATIO = 2;

/**
 * Following a text costs the draft model time before it has guessed anything: it may spend this part of the time of
 * steps without guesses and all that its guesses have saved, up to so many steps.
 */
const ALLOWED = 1 / 64;
const MOST_CREDIT_STEPS = 64;
/** Whoever is hard to guess for must not keep it from others for long. */
const MOST_DEBT_STEPS = 8;

export function noGuesses(): SchedulerState["guessed"] {
  return { textMs: 1, modelMs: 1, plainMs: 1, creditMs: undefined };
}

/** What is left of a promise, 0 to 1. */
export function worthOf({ textMs, modelMs }: SchedulerState["guessed"], byModel: boolean): number {
  return Math.min(1, 1 / (byModel ? modelMs : textMs));
}

/** Whether the draft model may follow a text: what it has cost so far has come back, or is little enough. */
export function mayFollow({ creditMs }: SchedulerState["guessed"]): boolean {
  return creditMs === undefined || creditMs > 0;
}

/**
 * A decode call is over, with all that comes of it.
 * @param seen Tokens drawn; drawing alone, and call and draws together, in ms; and in ms what the draft model did before,
 * for this step or to follow a text; absent is nothing.
 */
export function noteDecodeStep(
  state: SchedulerState,
  call: PlannedCall,
  seen: { readonly tokens: number; readonly drawMs: number; readonly ms: number; readonly draftMs?: number },
): void {
  const { guessed } = state;
  const { promise } = call;
  const promisedMs = promise?.ms ?? call.predictedMs + seen.tokens * (state.cost.drawMs ?? 0);
  if (seen.tokens > 0) state.cost = withDrawMs(state.cost, seen.drawMs / seen.tokens);
  const byModel = call.entries.some((entry) => entry.byModel);
  const { draftMs = 0 } = seen;
  const ms = seen.ms + (byModel ? draftMs : 0);
  noteCredit(guessed, call, { tokens: seen.tokens, ms, followMs: byModel ? 0 : draftMs });
  // What is not as it was planned, or changes the adapters, says nothing.
  if (call.unscaledMs === 0 || promisedMs <= 0) return;
  const msRatio = bounded(ms / promisedMs);
  if (promise === undefined) {
    if (call.drafts > 0) return;
    guessed.plainMs += NEWEST * (msRatio - guessed.plainMs);
    guessed.textMs += FORGOTTEN * (1 - guessed.textMs);
    guessed.modelMs += FORGOTTEN * (1 - guessed.modelMs);
    return;
  }
  const source = byModel ? "modelMs" : "textMs";
  // What no estimate knows of, such as the event loop's part, takes its time without guesses as well.
  guessed[source] += NEWEST * (msRatio / guessed.plainMs - guessed[source]);
}

function noteCredit(
  guessed: SchedulerState["guessed"],
  { promise, entries, drafts }: PlannedCall,
  { tokens, ms, followMs }: { readonly tokens: number; readonly ms: number; readonly followMs: number },
): void {
  const byModel = entries.some((entry) => entry.byModel);
  const mostMs = MOST_CREDIT_STEPS * ms;
  let creditMs = (guessed.creditMs ?? mostMs) - followMs;
  if (drafts === 0) creditMs = Math.min(mostMs, creditMs + ALLOWED * ms);
  else if (byModel && promise !== undefined) creditMs += tokens * promise.tokenMs * guessed.plainMs - ms;
  guessed.creditMs = Math.max(-MOST_DEBT_STEPS * ms, creditMs);
}

function bounded(ratio: number): number {
  return Math.min(MOST_RATIO, Math.max(1 / MOST_RATIO, ratio));
}
