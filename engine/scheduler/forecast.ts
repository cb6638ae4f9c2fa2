/**
 * How long a request will wait and when its first token will come, from the measured rate at which slots come free
 * and from what calls cost.
 *
 * Where slots are kept for short prompts, those wait for no long one that has all its slots: until as many slots have come
 * free as somebody waits for before it, or as many of those that long prompts leave as others with short ones do, whichever is
 * sooner. A long one waits for both, for all who go before it and for the places of long ones.
 */
import { expectedOf, placesAhead } from "./appointments.ts";
import type { PlaceAhead, Visitor } from "./appointments.ts";
import { companies, NOBODY } from "./company.ts";
import type { Company } from "./company.ts";
import { decodeCallMs, prefillCallMs, prefillTokensMs, undisturbed } from "./cost-model.ts";
import { UNSHARED, deviceStretch } from "./device-share.ts";
import { COOLDOWN_MS } from "./eviction.ts";
import { isAway } from "./offload.ts";
import { inLine, inLongLine } from "./owners.ts";
import { prefillEnd } from "./prefill-cells.ts";
import { isLong, longPlaces, longRoom } from "./reserve.ts";
import { expectedLeftMs, residenceMs } from "./slot-times.ts";
import { CLASSES } from "./types.ts";
import type { OwnerState, ScheduledRequest, SchedulerState, Slot } from "./types.ts";
import type { Prompts } from "./waiting-order.ts";
import { HARDLY_MS, workerForecast } from "./worker-time.ts";

/** Who is due by somebody's turn goes first, as far as it is no error of the forecast that it is not. */
const UNSURE = 1.25;
/** Part of the slots: whoever is there takes no turn that would come to be missed by the next so many who are asked back. */
const LOOKED_AT = 1 / 4;

/** A prompt of which more than this is there already stays where it is. */
const MOST_TWICE = 1 / 3;

/** Waiting requests whose prompts are followed one by one; those behind them are taken to come evenly. */
const MOST_ONE_BY_ONE = 256;

/** What of a request matters to its wait. */
export interface Newcomer extends Visitor {
  /** Prompt tokens that have to be computed. */
  readonly computedTokens: number;
  /** Those before them, which are there already; absent: none. */
  readonly reusedTokens?: number;
  readonly maxNew: number;
}

/** What of a prompt is still to be computed. */
type Prompt = Pick<Newcomer, "computedTokens" | "reusedTokens">;

/** Until it gets a slot, in ms. */
export function predictedWaitMs(state: SchedulerState, newcomer: Newcomer, nowMs: number): number {
  return forPrompt(state, newcomer, (prompts) => {
    const { requests } = aheadOf(state, newcomer, { ownPlaces: 0, prompts });
    const free = prompts === "all" ? state.slots.filter(({ owner }) => owner === undefined).length : 0;
    return requests < free ? 0 : releaseTimes(state, newcomer, nowMs, prompts)(requests);
  });
}

/** Of a time that depends on who waits for which slots: the one that counts for this prompt. */
function forPrompt(
  { config }: SchedulerState,
  { computedTokens, reusedTokens = 0 }: Prompt,
  timeMs: (prompts: Prompts) => number,
): number {
  const ms = timeMs("all");
  if (config.reserve === undefined) return ms;
  return isLong(config, computedTokens + reusedTokens)
    ? Math.max(ms, timeMs("long"))
    : Math.min(ms, timeMs("short"));
}

/** Until so many of those who wait have got a slot, and of those who were refused before it whoever is due by then, in ms. */
export function predictedRoomMs(
  state: SchedulerState,
  newcomer: Newcomer,
  waiting: number,
  nowMs: number,
): number {
  const releaseMs = roomTimes(state, newcomer, nowMs);
  const { all } = placesAhead(state, newcomer, nowMs);
  return turnAfter(all, Infinity, (before) => releaseMs(waiting - 1 + before));
}

/** When the nth of those who wait, counted from 0, has a slot, in ms: behind the short prompts it is a long one. */
function roomTimes(state: SchedulerState, newcomer: Newcomer, nowMs: number): (index: number) => number {
  const releaseMs = releaseTimes(state, newcomer, nowMs, "all");
  if (state.config.reserve === undefined) return releaseMs;
  let short = 0;
  for (let priority = 0; priority < CLASSES; priority++) short += state.lines[priority]?.waiting ?? 0;
  const longMs = releaseTimes(state, newcomer, nowMs, "long");
  return (index) => Math.max(releaseMs(index), index < short ? 0 : longMs(index - short));
}

/**
 * When it is the newcomer's turn. Of those who were refused before it these go first: who is due by then, and who would
 * be refused once more if the newcomer took the turn, since it would have to wait for the one behind.
 * @param lookedAt So many behind the newcomer are asked whether that would happen to them.
 * @param turnMs Of the turn behind so many of them, where the one before that begins at `lastMs`: when it begins.
 */
function turnAfter(
  places: readonly PlaceAhead[],
  lookedAt: number,
  turnMs: (before: number, lastMs: number | undefined) => number,
): number {
  const turns: number[] = [];
  const nth = (before: number): number => {
    while (turns.length <= before) turns.push(turnMs(turns.length, turns.at(-1)));
    return turns[before] ?? 0;
  };
  // Of the places, and of those among them that are expected to be taken.
  let [first, before] = [0, 0];
  let expected = 0;
  for (const [index, { dueMs, share }] of places.entries()) {
    const ahead = Math.round(expected);
    expected += share;
    const isDue = index === first && dueMs <= UNSURE * nth(ahead);
    if (!isDue && index >= first + lookedAt) break;
    if (!isDue && dueMs >= nth(ahead + 1)) continue;
    first = index + 1;
    before = Math.round(expected);
  }
  return nth(before);
}

/**
 * Until its first token, in ms: when it has a slot and all prompts before its own have been computed, those of
 * requests that have to wait for their slots included, its own is. Those who were refused before it go first as well.
 */
export function predictedTtftMs(state: SchedulerState, newcomer: Newcomer, nowMs: number): number {
  const lookedAt = Math.floor(state.slots.length * LOOKED_AT);
  return forPrompt(state, newcomer, (prompts) => ttftMs(state, newcomer, nowMs, { prompts, lookedAt }));
}

/**
 * The same for one that is told to come back: a gap between those who are away is for whoever is there and gone by
 * then, so it goes behind all whom it could make come in vain.
 */
export function ttftOfReturnMs(state: SchedulerState, newcomer: Newcomer, nowMs: number): number {
  return forPrompt(state, newcomer, (prompts) =>
    ttftMs(state, newcomer, nowMs, { prompts, lookedAt: Infinity }),
  );
}

/** The same where these prompts alone wait for these slots. */
function ttftMs(
  state: SchedulerState,
  newcomer: Newcomer,
  nowMs: number,
  { prompts, lookedAt }: { readonly prompts: Prompts; readonly lookedAt: number },
): number {
  const { slots } = state;
  const places = placesAhead(state, newcomer, nowMs);
  const ahead = aheadOf(state, newcomer, { ownPlaces: places.own, prompts });
  const releaseMs = releaseTimes(state, newcomer, nowMs, prompts);
  const { decoding, begun, away } = loadOf(state);
  // Whoever goes before it decodes when its own turn has come, as far as there are slots.
  const most = decoding + begun.length + away + ahead.requests + expectedOf(places.all);
  const companyOf = companies(state);
  const beside = companyOf(Math.min(slots.length - 1, most));
  const eachTokens = ahead.requests === 0 ? 0 : ahead.tokens / ahead.requests;
  const computedTokens = eachTokens * state.computedShare;
  const each = { computedTokens, reusedTokens: eachTokens - computedTokens };
  const eachMs = promptMs(state, each, beside);
  const ownMs = promptMs(state, newcomer, beside);
  let computedMs = 0;
  const besideBegun = companyOf(Math.min(beside.slots, decoding + 1));
  for (const prompt of begun) computedMs += promptMs(state, prompt, besideBegun);
  const oneByOne = Math.min(ahead.requests, MOST_ONE_BY_ONE);
  for (let index = 0; index < oneByOne; index++) computedMs = Math.max(computedMs, releaseMs(index)) + eachMs;
  const others = ahead.requests - oneByOne;
  if (others > 0) computedMs = Math.max(computedMs + others * eachMs, releaseMs(ahead.requests - 1) + eachMs);
  const startMs = turnAfter(places.all, lookedAt, (before, lastMs) => {
    // What those who are away will ask for is not known; most requests are like others.
    const readyMs = lastMs === undefined ? computedMs : lastMs + ownMs;
    return Math.max(readyMs, releaseMs(ahead.requests + before));
  });
  const tokenMs = firstTokenMs(state, newcomer, beside);
  if (!state.offload.employed) return startMs + ownMs + tokenMs;
  const slotMs = releaseMs(ahead.requests);
  const { decodeMs } = companyOf(decoding);
  const prompting = workerForecast(state, promptingStepMs(state, decodeMs));
  // Until it has its slot, streams alone have the device where nobody's prompt is computed.
  const waiting = begun.length > 0 ? prompting : workerForecast(state, decodeMs);
  const untilMs = (ms: number): number => {
    const waitMs = waiting.stretchedMs(Math.min(ms, slotMs));
    return ms <= slotMs ? waitMs : waitMs + prompting.stretchedMs(ms - slotMs, waitMs - slotMs);
  };
  const hereMs = untilMs(startMs + ownMs);
  const thereMs = waiting.promptMs(newcomer);
  if (thereMs === undefined) return hereMs + tokenMs;
  // Whoever goes before it, and has as long a prompt, has it before.
  const workerMs = ahead.requests * (waiting.promptMs(each) ?? 0) + waiting.busyMs;
  const beginMs = untilMs(startMs);
  const staysHere = workerMs - beginMs > MOST_TWICE * (hereMs - beginMs);
  return tokenMs + (staysHere ? hereMs : Math.max(untilMs(slotMs), workerMs) + thereMs);
}

/** A step of those who decode and of a prompt beside them; 0 where nobody decodes. */
function promptingStepMs({ config, cost }: SchedulerState, decodeMs: number): number {
  if (decodeMs === 0) return 0;
  const roomMs = Math.max(config.minPrefillShare * decodeMs, config.itlTargetMs - decodeMs);
  const cellMs = prefillCallMs(cost, config.prefillChunk, 0);
  return decodeMs + Math.min(roomMs, Math.max(1, Math.floor(roomMs / cellMs)) * cellMs);
}

/** From slot to first token at best, in ms: alone, on a device of its own, and as fast as at warm-up. */
export function leastPromptMs(state: SchedulerState, prompt: Prompt): number {
  const alone = { ...state, cost: undisturbed(state.cost), deviceShare: UNSHARED };
  return promptMs(alone, prompt, NOBODY) + firstTokenMs(alone, prompt, NOBODY);
}

/** From slot to first token, in ms, while every other slot decodes. */
export function promptBesideMs(state: SchedulerState, prompt: Prompt): number {
  const beside = companies(state)(state.slots.length - 1);
  const elsewhereMs = workerForecast(state, beside.decodeMs).promptMs(prompt);
  return (elsewhereMs ?? promptMs(state, prompt, beside)) + firstTokenMs(state, prompt, beside);
}

/** The decode call behind a prompt, in ms. */
function firstTokenMs(
  state: SchedulerState,
  { computedTokens, reusedTokens = 0 }: Prompt,
  beside: Company,
): number {
  const cells = beside.cells + computedTokens + reusedTokens;
  const slots = Math.min(state.slots.length, beside.slots + 1);
  const ownMs = decodeCallMs(state.cost, [slots], 0, cells) + slots * (state.cost.drawMs ?? 0);
  return ownMs * deviceStretch(state);
}

/**
 * So many prompt tokens in the cells and steps in which they are computed beside others that decode, in ms, with the turns
 * of other engines on the device.
 */
function promptMs(state: SchedulerState, prompt: Prompt, beside: Company): number {
  return ownPromptMs(state, prompt, beside) * deviceStretch(state);
}

function ownPromptMs(
  state: SchedulerState,
  { computedTokens: tokens, reusedTokens: before = 0 }: Prompt,
  { decodeMs, drawMs }: Company,
): number {
  const { config, cost } = state;
  const { prefillChunk, itlTargetMs, minPrefillShare } = config;
  const stepMs = decodeMs === 0 ? Infinity : itlTargetMs - decodeMs;
  const whole = Math.floor(tokens / prefillChunk);
  const cellMs = prefillCallMs(cost, prefillChunk, before + tokens / 2);
  const rest = tokens - whole * prefillChunk;
  const restMs = rest > 0 ? prefillCallMs(cost, rest, before + whole * prefillChunk) : 0;
  const computeMs = prefillTokensMs(cost, prefillChunk, tokens, before);
  if (computeMs === 0) return 0;
  // A cell that does not fit into a step is saved up for.
  const creditMs = Math.max(minPrefillShare * decodeMs, stepMs, HARDLY_MS);
  if (cellMs > stepMs)
    return (
      computeMs + (decodeMs + drawMs) * (whole * Math.ceil(cellMs / creditMs) + Math.ceil(restMs / creditMs))
    );
  const inStep = Math.max(1, Math.floor(stepMs / cellMs));
  const steps = Math.ceil(whole / inStep);
  const roomMs = steps * stepMs - whole * cellMs;
  return computeMs + (decodeMs + drawMs) * (restMs > roomMs ? steps + 1 : steps);
}

/** Waiting requests that get a slot before this one would, and their prompt tokens. */
interface Ahead {
  readonly requests: number;
  readonly tokens: number;
}

/** Those of higher classes, its owner's own, and as many of each other owner as have their turn meanwhile. */
function aheadOf(
  state: SchedulerState,
  { tenant, priority }: Newcomer,
  { ownPlaces, prompts }: { readonly ownPlaces: number; readonly prompts: Prompts },
): Ahead {
  const own = state.owners.get(tenant);
  const waitingOf = (owner: OwnerState | undefined, ofClass: number): number => {
    if (prompts === "all") return inLine(owner, ofClass);
    const long = inLongLine(owner, ofClass);
    return prompts === "long" ? long : inLine(owner, ofClass) - long;
  };
  const ownWaiting = waitingOf(own, priority);
  const turns = (ownWaiting + ownPlaces + 1) / (own?.policy.weight ?? 1);
  let requests = 0;
  let tokens = 0;
  for (const owner of state.owners.values()) {
    if (owner.waiting === 0) continue;
    let ofOwner =
      owner === own
        ? ownWaiting
        : Math.min(waitingOf(owner, priority), Math.ceil(turns * owner.policy.weight));
    for (let higher = 0; higher < priority; higher++) ofOwner += waitingOf(owner, higher);
    requests += ofOwner;
    tokens += ofOwner * tokensOfEach(state, owner, prompts);
  }
  return { requests, tokens };
}

/** Prompt tokens of one of an owner's waiting requests on average, within what makes a prompt a long or a short one. */
function tokensOfEach({ config: { reserve } }: SchedulerState, owner: OwnerState, prompts: Prompts): number {
  const each = owner.waitingTokens / owner.waiting;
  if (prompts === "all" || reserve === undefined) return each;
  return prompts === "long" ? Math.max(each, reserve.promptTokens) : Math.min(each, reserve.promptTokens - 1);
}

/** When the nth slot from now that such prompts may have is expected to come free, counted from 0, in ms. */
function releaseTimes(
  state: SchedulerState,
  newcomer: Newcomer,
  nowMs: number,
  prompts: Prompts,
): (index: number) => number {
  const heldMs = residenceMs(state, newcomer, prompts);
  const releases = prompts === "all" ? releasesMs(state, nowMs) : releasesFor(state, nowMs, prompts);
  return (index) => (releases[index % releases.length] ?? 0) + Math.floor(index / releases.length) * heldMs;
}

/** When each slot is expected to come free, ascending. */
function releasesMs(
  state: SchedulerState,
  nowMs: number,
  of: (holder: ScheduledRequest | undefined) => boolean = () => true,
): number[] {
  const leftMs = expectedLeftMs(state, nowMs);
  const releases: number[] = [];
  for (const slot of state.slots) {
    const holder = holderOf(state, slot);
    if (!of(holder)) continue;
    releases.push(holder === undefined ? pausedMs(state, slot, nowMs) : leftMs(holder, slot.length));
  }
  return releases.sort((a, b) => a - b);
}

/**
 * The same of the places that long prompts may have: those that they have, and the first of the others; or of the slots that
 * are left when those long ones who wait have taken the first that they may.
 */
function releasesFor(state: SchedulerState, nowMs: number, prompts: "long" | "short"): number[] {
  const { config, lines } = state;
  const hasLong = (holder: ScheduledRequest | undefined): boolean =>
    holder !== undefined && isLong(config, holder.prompt.length);
  const others = releasesMs(state, nowMs, (holder) => !hasLong(holder));
  if (prompts === "long") {
    const longs = releasesMs(state, nowMs, hasLong);
    const more = others.slice(0, Math.max(0, longPlaces(config) - longs.length));
    return [...longs, ...more].sort((a, b) => a - b);
  }
  let waiting = 0;
  for (let line = CLASSES; line < lines.length; line++) waiting += lines[line]?.waiting ?? 0;
  return others.slice(Math.min(waiting, Math.max(0, longRoom(state))));
}

/** How long a paused request keeps its slot from others: for a while where it has just lost another one. */
function pausedMs({ requests }: SchedulerState, { owner }: Slot, nowMs: number): number {
  const request = requests.get(owner ?? "");
  return request?.paused === true ? Math.max(0, request.evictedMs + COOLDOWN_MS - nowMs) : 0;
}

/** Who keeps a slot from others, which a paused request does not. */
function holderOf({ requests }: SchedulerState, { owner }: Slot): ScheduledRequest | undefined {
  const request = owner === undefined ? undefined : requests.get(owner);
  return request === undefined || request.paused || request.cancelled ? undefined : request;
}

/** Slots that decode, and the others with what of their prompts is still to be computed here, and those of which it is elsewhere. */
function loadOf(state: SchedulerState): {
  readonly decoding: number;
  readonly begun: readonly Prompt[];
  readonly away: number;
} {
  let [decoding, away] = [0, 0];
  const begun: Prompt[] = [];
  for (const slot of state.slots) {
    const request = holderOf(state, slot);
    if (request === undefined) continue;
    const left = prefillEnd(request, state.config) - slot.length;
    if (isAway(state, request)) away += 1;
    else if (left <= 0) decoding += 1;
    else begun.push({ computedTokens: left, reusedTokens: slot.length });
  }
  return { decoding, begun, away };
}
