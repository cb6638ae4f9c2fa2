/**
 * What requests are told of their prompts: with the first token how it went, and before it, those who ask for it, how
 * far they are: as they begin, and behind each call that leaves something to compute.
 */
import type { RequestId, StartInfo, StepOutput } from "./protocol.ts";
import type { PlannedCall, ScheduledRequest, SchedulerState } from "./scheduler/types.ts";

export class PrefillReports {
  readonly #state: SchedulerState;
  readonly #add: (output: StepOutput) => void;
  /** Whom to tell, and since when each is computed, in ms. */
  readonly #watched = new Map<RequestId, number | undefined>();

  constructor(state: SchedulerState, add: (output: StepOutput) => void) {
    this.#state = state;
    this.#add = add;
  }

  watch(id: RequestId): void {
    this.#watched.set(id, undefined);
  }

  forget(id: RequestId): void {
    this.#watched.delete(id);
  }

  /** A call is about to run. */
  begin(call: Computed, nowMs: number): void {
    for (const { request, position } of this.#entriesOf(call)) {
      if (this.#watched.get(request.id) !== undefined) continue;
      this.#watched.set(request.id, nowMs);
      this.#report(request, position, 0);
    }
  }

  /** A call has ended. Of a prompt's last one the first token tells, which its last token is computed with. */
  advance(call: Computed, nowMs: number): void {
    for (const { request, position, tokens } of this.#entriesOf(call)) {
      const computed = position + tokens.length;
      const beganMs = this.#watched.get(request.id) ?? nowMs;
      if (computed < request.prompt.length - 1) this.#report(request, computed, nowMs - beganMs);
    }
  }

  /** Entries of those who are to be told and wait for their first token. */
  *#entriesOf({ entries }: Computed): Generator<Told> {
    if (this.#watched.size === 0) return;
    for (const { request: id = "", position, tokens } of entries) {
      const request = this.#watched.has(id) ? this.#state.requests.get(id) : undefined;
      if (request !== undefined && request.output.length === 0) yield { request, position, tokens };
    }
  }

  #report({ id, cachedTokens }: ScheduledRequest, computedTokens: number, ms: number): void {
    const prefill = { cachedTokens, computedTokens, ms };
    this.#add({ id, tokens: [], logprobs: undefined, start: undefined, finish: undefined, prefill });
  }
}

export function startInfo(request: ScheduledRequest, nowMs: number): Omit<StartInfo, "promptLogprobs"> {
  const { cachedTokens, cachedFrom, heldSinceMs } = request;
  const admittedMs = request.admittedMs ?? nowMs;
  return {
    slot: request.slot ?? -1,
    cachedTokens,
    cachedFrom,
    ...(heldSinceMs === undefined ? {} : { heldMs: admittedMs - heldSinceMs }),
    queueMs: admittedMs - request.arrivalMs,
    prefillMs: nowMs - admittedMs,
  };
}

/** What is computed, wherever. */
type Computed = Pick<PlannedCall, "entries">;

interface Told {
  readonly request: ScheduledRequest;
  readonly position: number;
  readonly tokens: Uint32Array;
}
