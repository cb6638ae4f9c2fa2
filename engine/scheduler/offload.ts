/**
 * Which prompt the prefill worker computes, beside the streams that go on here, and what becomes of it.
 *
 * The request has its slot from the beginning, which is filled at once when the worker has computed the whole prompt. Until
 * then it takes part in no call.
 */
import { EngineError } from "../errors.ts";
import { prefillTokensMs, spillBytes, transferMs } from "./cost-model.ts";
import type { Running } from "./admission.ts";
import type { Offload, OffloadState, ScheduledRequest, SchedulerState } from "./types.ts";

/**
 * Of a prompt that the worker computes, in the time between tokens that is wanted. A shorter one has its first token sooner
 * here, where its cells go between the streams' tokens: beside eight streams one of 158 tokens after 0.76 s instead of 1.11
 * (135M model, 2 cores).
 */
const LONG_TARGETS = 4;

export function noOffload(): OffloadState {
  return {
    employed: false,
    ready: false,
    failed: undefined,
    current: undefined,
    computed: 0,
    scale: 1,
    restedMs: 0,
  };
}

/** Whether the worker computes its prompt. */
export function isAway({ offload }: SchedulerState, { id }: ScheduledRequest): boolean {
  return offload.current?.request === id;
}

/** The worker has so many tokens of what it computes. */
export function noteOffloaded({ offload }: SchedulerState, tokens: number): void {
  offload.computed = tokens;
}

/** Tokens of a running request that would be lost with its slot, wherever they were computed. */
export function lostTokens(state: SchedulerState, { request, length }: Running): number {
  return isAway(state, request) ? Math.max(length, state.offload.computed) : length;
}

/**
 * A long prompt that streams would wait for in many steps, and of which little is there: what is, is computed again. Its
 * cells have to find room in a file, which is not read for longer than the target, since it cannot be in pieces.
 * @param prefilling In the order in which they would be computed here.
 * @param streams Whether anybody waits for a token: else it is computed here, with all there is.
 */
export function chooseOffload(
  state: SchedulerState,
  prefilling: readonly Running[],
  streams: boolean,
): Offload | undefined {
  const { offload } = state;
  if (!offload.ready || offload.current !== undefined || !streams) return undefined;
  for (const { request, slot, length } of prefilling) {
    const { prompt, output, adapters, readsPrompt, interrupted } = request;
    const end = prompt.length - 1;
    const rest = end - length;
    if (adapters !== undefined || readsPrompt || interrupted || output.length > 0 || rest < 2 * length)
      continue;
    if (request.id === offload.failed || landingMs(state, end) === undefined) continue;
    if (isLong(state, rest, length)) return { request: request.id, slot, tokens: prompt.slice(0, end) };
  }
  return undefined;
}

/** What it takes to read the cells of so many tokens, in ms; undefined where they find no room or it takes too long. */
export function landingMs({ spill, cost, config }: SchedulerState, tokens: number): number | undefined {
  if (spill === undefined || cost.spill === undefined) return undefined;
  const bytes = spillBytes(cost.spill, tokens);
  const ms = transferMs(cost.spill.restore, bytes);
  return bytes > spill.limitBytes || ms > config.itlTargetMs ? undefined : ms;
}

/** Of a prompt of which so much is there. */
export function isLong({ config, cost }: SchedulerState, rest: number, length: number): boolean {
  return prefillTokensMs(cost, config.prefillChunk, rest, length) > LONG_TARGETS * config.itlTargetMs;
}

/** What the slot has already is computed again, so that nothing of the prompt was there. */
export function beginOffload(state: SchedulerState, offload: Offload | undefined): void {
  const request = offload && state.requests.get(offload.request);
  if (request === undefined) return;
  state.offload.current = offload;
  state.offload.computed = 0;
  request.cachedTokens = 0;
}

/** Whether somebody still wants what the worker computes, in the slot that it is for. */
export function isWanted({ requests }: SchedulerState, { request: id, slot }: Offload): boolean {
  const request = requests.get(id);
  return request?.cancelled === false && request.slot === slot && request.phase === "prefill";
}

/** The slot's cells have been replaced by those of the whole prompt, cut as they would have been here. */
export function landOffload(state: SchedulerState, { request: id, slot: slotId, tokens }: Offload): void {
  const request = state.requests.get(id);
  const slot = state.slots[slotId];
  if (request === undefined || slot?.owner !== id || request.phase !== "prefill")
    throw new EngineError("internal", `Slot ${slotId} does not wait for the prompt of "${id}".`);
  const { prefillChunk } = state.config;
  slot.tokens.set(tokens);
  slot.length = tokens.length;
  slot.firstCell = 0;
  slot.gridEnd = Math.floor(tokens.length / prefillChunk) * prefillChunk;
  slot.tailEnd = tokens.length;
  request.reachedTokens = tokens.length;
  request.phase = "decode";
  // The engine rested for it: of its own time nothing is to be taken off.
  request.restedBeforeMs = state.offload.restedMs;
  state.offload.current = undefined;
}
