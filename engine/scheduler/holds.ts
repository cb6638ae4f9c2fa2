/**
 * Which waiting requests are held for a prefix that another request computes, and for how long.
 *
 * Prompts are computed one at a time, so whoever waits for a prefix in the making loses nothing as long as its leader is
 * computed no later than itself would be. So the leader goes with the class of the highest that is held for it, and a hold ends
 * where the leader's turn does not come for other reasons: in time to have the prefix, the rest of it computed anew, within
 * twice the time that computing all of it anew would have taken.
 */
import { isAway } from "./offload.ts";
import { prefillTokensMs, promptTokenMs } from "./cost-model.ts";
import { promptBesideMs } from "./forecast.ts";
import { commonPrefixLength } from "./prefix-reuse.ts";
import type { RequestId } from "../protocol.ts";
import type { Running } from "./admission.ts";
import type { CheckpointPlan } from "./checkpoint-plan.ts";
import type { SlotChoice } from "./slot-choice.ts";
import type { Hold, ScheduledRequest, SchedulerState } from "./types.ts";

/** What a hold may take, of what computing the prefix anew takes. */
const MOST_TIMES = 2;

/** A prefix that another request computes. */
export interface PrefixInTheMaking {
  readonly leader: ScheduledRequest;
  /** So much of the prompt it is. */
  readonly tokens: number;
}

/** Those of one plan. */
export class Holds {
  /** Those that begin. */
  readonly begun: Hold[] = [];
  /** With which class each leader is computed for those that are held for it: the highest of theirs and its own. */
  readonly lent = new Map<RequestId, number>();
  readonly #state: SchedulerState;
  readonly #nowMs: number;
  readonly #checkpoints: CheckpointPlan | undefined;

  constructor(state: SchedulerState, nowMs: number, checkpoints: CheckpointPlan | undefined) {
    this.#state = state;
    this.#nowMs = nowMs;
    this.#checkpoints = checkpoints;
  }

  /**
   * A prefix in the making which `request` could copy and which saves more than the copy costs over what can be reused
   * already, and for which it has not waited too long.
   */
  prefixFor(
    request: ScheduledRequest,
    choice: SlotChoice,
    running: readonly Running[],
  ): PrefixInTheMaking | undefined {
    const { config } = this.#state;
    if (!request.reusePrefix || config.prefixHolds === false) return undefined;
    for (const { request: leader, length } of running) {
      const prefillEnd = leader.prompt.length - 1;
      if (leader.paused || length >= prefillEnd || leader.cacheKey !== request.cacheKey) continue;
      const most = Math.min(prefillEnd, request.prompt.length - 1);
      // What is there already can be copied now. Nearly always the next token tells that there is no more.
      if (length >= most || request.prompt[length] !== leader.prompt[length]) continue;
      const common = commonPrefixLength(request.prompt, leader.prompt, most);
      if (common <= length) continue;
      // What is computed elsewhere comes as a whole: too late for who needs little of it.
      if (isAway(this.#state, leader) && common * 2 < prefillEnd) continue;
      const whole = common === most && leader.prompt.length === request.prompt.length;
      const tokens = whole ? common : Math.floor(common / config.prefillChunk) * config.prefillChunk;
      // Else the leader's state goes past it: it stops there, and is copied when the next step begins.
      const stops = this.#checkpoints?.goesWithCopies === true && tokens > length;
      if (!whole && !config.canRewind && !stops) continue;
      const made = { leader, tokens };
      if (this.#pays(choice, made, length) && this.#isInTime(request, made, length)) return made;
    }
    return undefined;
  }

  /** The request waits for it. @param reuse What of its prompt is there without it. */
  hold(request: ScheduledRequest, { leader }: PrefixInTheMaking, reuse: number): void {
    if (request.hold?.leader !== leader.id)
      this.begun.push({ request: request.id, leader: leader.id, sinceMs: this.#nowMs, reuse });
    this.lent.set(leader.id, Math.min(request.priority, this.lent.get(leader.id) ?? leader.priority));
  }

  #pays({ reuse, copyFrom }: SlotChoice, { tokens }: PrefixInTheMaking, length: number): boolean {
    const { cost } = this.#state;
    const copyMs = copyFrom === undefined ? cost.copyMs : 0;
    const savedMs = (tokens - reuse) * promptTokenMs(cost, (tokens + reuse) / 2);
    return tokens > reuse && savedMs > copyMs && this.#ownMs(length, tokens) <= this.#ownMs(reuse, tokens);
  }

  /** Whether it is worth waiting from now on, or still, if the leader is computed without a break. */
  #isInTime({ hold }: ScheduledRequest, { leader, tokens }: PrefixInTheMaking, length: number): boolean {
    if (hold === undefined) return true;
    // One that was there before is not waited for again, or two could be in turn without end.
    if (hold.leader !== leader.id) return leader.admittedMs === undefined || leader.admittedMs > hold.sinceMs;
    // What is computed elsewhere comes as a whole, and nothing tells here how much of it there is.
    const away = isAway(this.#state, leader);
    const end = away ? leader.prompt.length - 1 : tokens;
    const anew = { computedTokens: end - hold.reuse, reusedTokens: hold.reuse };
    const untilMs = hold.sinceMs + MOST_TIMES * promptBesideMs(this.#state, anew);
    return this.#nowMs + (away ? 0 : this.#ownMs(length, tokens)) <= untilMs;
  }

  /** Of the tokens between the two, in ms. */
  #ownMs(from: number, to: number): number {
    const { config, cost } = this.#state;
    return prefillTokensMs(cost, config.prefillChunk, to - from, from);
  }
}
