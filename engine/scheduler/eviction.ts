/**
 * Whether a waiting request is worth taking a slot from a running one, and from which.
 *
 * Only for a strictly higher class, or for an owner that has fewer slots than its share, of an owner that keeps at
 * least as many afterwards: no two requests can take each other's slot in turn. The loser waits with its output
 * kept and computes it again, what the prefill worker has of its prompt too, so it must be cheaper than the wait that is saved.
 */
import { decodeCallMs, prefillCallMs } from "./cost-model.ts";
import { cellsOf } from "./decode-layout.ts";
import { lostTokens } from "./offload.ts";
import { fairnessOf } from "./owners.ts";
import { isLong } from "./reserve.ts";
import { CLASSES } from "./types.ts";
import type { Running } from "./admission.ts";
import type { EvictionKind, OwnerState, ScheduledRequest, SchedulerState } from "./types.ts";
import type { Prompts, WaitingOrder } from "./waiting-order.ts";

/** For so long after a request has lost its slot it loses no other one, and it is not asked more often than that. */
export const COOLDOWN_MS = 10_000;
const MOST_EVICTIONS = 3;
/** A request that has generated more than this share of its tokens may finish. */
const NEARLY_DONE = 0.8;

export interface Exchange {
  readonly kind: EvictionKind;
  readonly waiter: ScheduledRequest;
  readonly victim: Running;
}

/** What an exchange is chosen from. */
export interface ExchangeView {
  readonly state: SchedulerState;
  readonly order: WaitingOrder;
  readonly nowMs: number;
}

/**
 * @param running Everything that holds a slot, what this plan has admitted included.
 * @param among Whose prompts count: of long ones alone where slots are free that those may not have.
 */
export function chooseEviction(
  { state, order, nowMs }: ExchangeView,
  running: readonly Running[],
  among: "all" | "long",
): Exchange | undefined {
  const victims = among === "all" ? running : longOnes(state, running);
  // Whoever is paused waits for nothing.
  for (const victim of victims) {
    if (!mayYield(running, victim.request, nowMs)) continue;
    const waiter = order.next(among === "all" ? order.ableWithout(victim.request) : "long");
    if (waiter !== undefined) return { kind: "paused", waiter, victim };
  }
  if (!fairnessOf(state.config).evict) return undefined;
  const candidates = victims.filter(({ request }) => mayLose(state, request, nowMs));
  if (candidates.length === 0) return undefined;
  for (let priority = 0; priority < CLASSES; priority++) {
    for (const prompts of among === "all" && order.able === "short" ? BOTH_WAYS : [among]) {
      const waiter = order.nextOf(priority, prompts);
      if (waiter === undefined) continue;
      // Who may have no more slots than those of long prompts gets one of these.
      const isAble = order.isAble(waiter);
      const of = isAble ? candidates : longOnes(state, candidates);
      const lower = leastWorth(state, of, ({ request }) => request.priority > priority);
      const victim = lower ?? leastWorth(state, of, ({ request }) => hasMore(order, request, waiter));
      if (victim === undefined) continue;
      const kind = lower === undefined ? "share" : "class";
      const freeMs = soonestFreeMs(state, isAble ? running : longOnes(state, running));
      if (freeMs > replayMs(state, victim.request)) return { kind, waiter, victim };
    }
  }
  return undefined;
}

/** Whoever is next, and behind that who is next of those who may have any slot. */
const BOTH_WAYS: readonly Prompts[] = ["all", "short"];

/**
 * Of owners that have all the slots they may, however many are free: whoever is paused gives way to a request of its own owner,
 * and else one of a lower class.
 * @param except Owners whose exchange has to wait.
 */
export function chooseOwnExchange(
  { state, order, nowMs }: ExchangeView,
  running: readonly Running[],
  except: ReadonlySet<OwnerState>,
): Exchange | undefined {
  const { evict } = fairnessOf(state.config);
  for (const victim of running) {
    const { request } = victim;
    const account = except.has(request.owner) ? undefined : order.account(request.tenant);
    if (account === undefined || account.running < account.owner.policy.maxRunning) continue;
    const prompts = order.ableWithout(request);
    const waiter = order.firstOf(account.owner, request.paused ? CLASSES : request.priority, prompts);
    if (waiter === undefined) continue;
    if (mayYield(running, request, nowMs)) return { kind: "paused", waiter, victim };
    if (request.paused || !evict) continue;
    const own = running.filter((other) => other.request.owner === account.owner);
    const of = order.isAble(waiter) ? own : longOnes(state, own);
    const lower = of.filter((one) => one.request.priority > waiter.priority);
    const least = leastWorth(state, lower, (one) => mayLose(state, one.request, nowMs));
    if (least !== undefined && soonestFreeMs(state, of) > replayMs(state, least.request))
      return { kind: "own", waiter, victim: least };
  }
  return undefined;
}

function longOnes({ config }: SchedulerState, running: readonly Running[]): readonly Running[] {
  return running.filter(({ request }) => isLong(config, request.prompt.length));
}

/** Whether the victim's owner has a slot more than its share, seen from the waiter's owner. */
function hasMore(order: WaitingOrder, victim: ScheduledRequest, waiter: ScheduledRequest): boolean {
  const from = order.account(victim.tenant);
  const to = order.account(waiter.tenant);
  if (from === undefined || to === undefined || from === to || victim.priority < waiter.priority)
    return false;
  const left = (from.running - 1) / from.owner.policy.weight;
  return left >= (to.running + 1) / to.owner.policy.weight && to.owner.served <= from.owner.served;
}

function mayLose(state: SchedulerState, request: ScheduledRequest, nowMs: number): boolean {
  const done = request.output.length / Math.max(1, request.maxNew);
  // What this very plan has admitted holds no slot yet.
  const holds = request.slot !== undefined && state.slots[request.slot]?.owner === request.id;
  const rested = hasRested(request, nowMs) && request.evictions < MOST_EVICTIONS;
  return holds && rested && done <= NEARLY_DONE && mayReplay(request);
}

/**
 * Whether it is paused and gives way to who waits. What it has is computed again when it goes on, and whoever is paused and
 * resumed again and again, as a slow reader is, would have others wait for that each time: beside them it keeps its slot for a
 * while, as who lost one while it ran.
 */
function mayYield(running: readonly Running[], request: ScheduledRequest, nowMs: number): boolean {
  if (!request.paused || !mayReplay(request)) return false;
  return hasRested(request, nowMs) || running.every((other) => other.request.paused);
}

function hasRested({ evictedMs }: ScheduledRequest, nowMs: number): boolean {
  return nowMs - evictedMs >= COOLDOWN_MS;
}

/** The logits of a prompt are read once. */
function mayReplay(request: ScheduledRequest): boolean {
  return !request.readsPrompt && request.slot !== undefined;
}

/** Of those that qualify: lowest class, then what is cheapest to compute again, then the latest. */
function leastWorth(
  state: SchedulerState,
  candidates: readonly Running[],
  qualifies: (candidate: Running) => boolean,
): Running | undefined {
  let least: Running | undefined;
  for (const candidate of candidates)
    if (qualifies(candidate) && (least === undefined || isLess(state, candidate, least))) least = candidate;
  return least;
}

function isLess(state: SchedulerState, a: Running, b: Running): boolean {
  if (a.request.priority !== b.request.priority) return a.request.priority > b.request.priority;
  const lostMore = sunk(state, a) - sunk(state, b);
  if (lostMore !== 0) return lostMore < 0;
  return a.request.arrival > b.request.arrival;
}

/** What of it is computed again, in tokens; or that for each token that it may still say. */
function sunk(state: SchedulerState, running: Running): number {
  const lost = lostTokens(state, running);
  const { maxNew, output } = running.request;
  return state.config.victim === "least-sunk-per-token" ? lost / Math.max(1, maxNew - output.length) : lost;
}

/** How long at most until a slot comes free by itself, in ms. */
function soonestFreeMs(state: SchedulerState, running: readonly Running[]): number {
  let tokens = Infinity;
  for (const { request } of running) tokens = Math.min(tokens, request.maxNew - request.output.length);
  return tokens * decodeCallMs(state.cost, [running.length], 0, cellsOf(running));
}

function replayMs({ cost }: SchedulerState, { prompt, output }: ScheduledRequest): number {
  const tokens = prompt.length + output.length;
  return prefillCallMs(cost, tokens, tokens / 2);
}
