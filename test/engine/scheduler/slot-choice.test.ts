import * as fc from "fast-check";
import { expect, test, vi } from "vitest";
import {
  decodeCallMs,
  decodePassMs,
  prefillCallMs,
  spillBytes,
  transferMs,
} from "../../../engine/scheduler/cost-model.ts";
import { decodeLayout, mayPlug } from "../../../engine/scheduler/decode-layout.ts";
import { reusableTokens } from "../../../engine/scheduler/prefix-reuse.ts";
import { chooseSlot } from "../../../engine/scheduler/slot-choice.ts";
import { KeepingTime } from "../../../engine/scheduler/keeping-time.ts";
import { Places } from "../../../engine/scheduler/slot-place.ts";
import { SpillPlan } from "../../../engine/scheduler/spill-plan.ts";
import type { SlotChoice } from "../../../engine/scheduler/slot-choice.ts";
import type { ScheduledRequest, SchedulerState, Slot } from "../../../engine/scheduler/types.ts";
import { SPILL_COST, addRequest, schedulerState } from "../../support/scheduler.ts";

const NOW_MS = 500_000;

/** Every option of every free slot with all that it costs; the first of the cheapest. */
function plainChoice(
  request: ScheduledRequest,
  state: SchedulerState,
  busy: readonly number[],
): SlotChoice | undefined {
  const reuseOf = state.slots.map((slot) => reusableTokens(request, slot, state.config));
  const most = Math.max(0, ...reuseOf);
  const source = most > 0 ? reuseOf.indexOf(most) : undefined;
  const computeMs = (tokens: number): number => {
    const grid = state.config.prefillChunk;
    const cells = Math.floor(tokens / grid);
    const rest = tokens > cells * grid ? prefillCallMs(state.cost, tokens - cells * grid, 0) : 0;
    return tokens <= 0 ? 0 : cells * prefillCallMs(state.cost, grid, 0) + rest;
  };
  const lossMs = (slot: Slot, keep: number): number => {
    const chance = Math.exp(-(NOW_MS - slot.lastUseMs) / 600_000) * (1 - 0.8 ** (slot.hits + 1));
    const valueMs = slot.length > keep ? chance * computeMs(slot.length - keep) : 0;
    const bytes = spillBytes(SPILL_COST, slot.length);
    const saved = state.spill !== undefined && slot.length - keep >= 10 && !state.inCopies.has(slot.id);
    if (!saved || bytes > state.spill.limitBytes) return valueMs;
    const savedMs = transferMs(SPILL_COST.save, bytes) + chance * transferMs(SPILL_COST.restore, bytes);
    return Math.min(valueMs, savedMs);
  };
  const files = [...(state.spill?.prefixes.values() ?? [])].map((prefix) => ({
    prefix,
    reuse: reusableTokens(request, prefix, state.config),
    ms: transferMs(SPILL_COST.restore, prefix.bytes),
  }));
  const mostOfFile = Math.max(0, ...files.map(({ reuse }) => reuse));
  const file = files
    .filter(({ reuse }) => reuse > 0 && reuse === mostOfFile)
    .sort((a, b) => a.ms - b.ms)
    .at(0);
  const placeMs = (slot: number): number => {
    const together = [...busy, slot].sort((a, b) => a - b);
    const { passWidths } = decodeLayout(
      together,
      () => mayPlug(state.config),
      (width) => decodePassMs(state.cost, width, 0),
    );
    const extraMs =
      decodeCallMs(state.cost, passWidths, 0, 0) - decodeCallMs(state.cost, [together.length], 0, 0);
    return Math.max(0, extraMs) * Math.min(request.maxNew, 128);
  };
  const left = request.prompt.length - 1;
  const options = state.slots
    .filter(({ id }) => !busy.includes(id))
    .flatMap((slot): SlotChoice[] => {
      const reuse = reuseOf[slot.id] ?? 0;
      const keptMs = computeMs(left - reuse) + lossMs(slot, reuse) + placeMs(slot.id);
      const kept: SlotChoice = { slot: slot.id, reuse, copyFrom: undefined, costMs: keptMs };
      const choices = [kept];
      const fromElsewhere = { slot: slot.id, copyFrom: undefined };
      if (source !== undefined && most > reuse) {
        const costMs = state.cost.copyMs + computeMs(left - most) + lossMs(slot, 0) + placeMs(slot.id);
        choices.push({ ...fromElsewhere, reuse: most, copyFrom: source, costMs });
      }
      if (file !== undefined && file.reuse > reuse && !state.inCopies.has(slot.id)) {
        const costMs = file.ms + computeMs(left - file.reuse) + lossMs(slot, 0) + placeMs(slot.id);
        choices.push({ ...fromElsewhere, reuse: file.reuse, restore: file, costMs });
      }
      return choices;
    });
  return options.reduce<SlotChoice | undefined>(
    (best, option) => (best === undefined || option.costMs < best.costMs ? option : best),
    undefined,
  );
}

const slotArbitrary = fc.record({
  length: fc.nat(40),
  /** Tokens that it has in common with the prompt. */
  common: fc.nat(40),
  lastUseMs: fc.constantFrom(0, 100_000, 499_999),
  hits: fc.nat(4),
  busy: fc.boolean(),
  inCopy: fc.boolean(),
  /** Whether a state stands in place of its cells. */
  state: fc.boolean(),
});
const fileArbitrary = fc.record({ length: fc.integer({ min: 1, max: 60 }), common: fc.nat(60) });

test("the slot that is chosen is the cheapest of all, worked out one by one", () => {
  const settings = fc.record({
    slots: fc.array(slotArbitrary, { minLength: 1, maxLength: 12 }),
    files: fc.array(fileArbitrary, { maxLength: 4 }),
    spillBytes: fc.constantFrom(0, 100, 10_000),
    promptTokens: fc.integer({ min: 1, max: 60 }),
    maxTokens: fc.integer({ min: 1, max: 140 }),
    canRewind: fc.boolean(),
    plugGaps: fc.boolean(),
    deterministic: fc.boolean(),
  });
  fc.assert(
    fc.property(settings, ({ slots, files, promptTokens, maxTokens, ...config }) => {
      const state = schedulerState({ ...config, slots: slots.length });
      const prompt = Uint32Array.from({ length: promptTokens }, (_, i) => i);
      addRequest(state, "r", { prompt, maxTokens });
      files.forEach(({ length, common }, id) => {
        const tokens = Uint32Array.from({ length }, (_, i) => (i < common ? i : 2000 + id));
        const marks = {
          firstCell: 0,
          gridEnd: length - (length % 10),
          tailEnd: length,
          lastUseMs: 0,
          hits: 0,
        };
        const bytes = spillBytes(SPILL_COST, length);
        const prefix = { id, tokens, length, cacheKey: "", bytes, ...marks };
        state.spill?.prefixes.set(id, prefix);
        state.spill?.order.add(prefix);
      });
      slots.forEach(({ length, common, lastUseMs, hits, inCopy, ...slotOf }, id) => {
        const slot = state.slots[id];
        if (slot === undefined) return;
        if (inCopy) state.inCopies.add(id);
        if (!config.canRewind && slotOf.state) slot.firstCell = Math.max(0, length - 1);
        for (let i = 0; i < length; i++) slot.tokens[i] = i < common ? i : 1000 + id;
        Object.assign(slot, { length, gridEnd: length - (length % 10), tailEnd: length, lastUseMs, hits });
      });
      const busy = slots.flatMap((slot, id) => (slot.busy ? [id] : []));
      const request = state.requests.get("r");
      expect(request).toBeDefined();
      if (request === undefined) return;
      const spill = SpillPlan.of(state, NOW_MS, new KeepingTime(state));
      const choice = chooseSlot(
        request,
        state,
        { busy, overwritten: new Set<number>(), kept: new Map(), spill },
        NOW_MS,
      );
      expect(choice).toEqual(plainChoice(request, state, busy));
    }),
    { numRuns: 1500 },
  );
});

/** Places that are laid out until a request has a slot beside these busy ones. */
function placesLaidOut(
  busy: readonly number[],
  plugGaps: boolean,
): { slot: number | undefined; laidOut: number } {
  const state = schedulerState({ slots: 256, plugGaps });
  addRequest(state, "r");
  const request = state.requests.get("r");
  if (request === undefined) throw new Error("There is no request.");
  const taken = { busy, overwritten: new Set<number>(), kept: new Map<number, never>() };
  const ms = vi.spyOn(Places.prototype, "ms");
  try {
    const slot = chooseSlot(request, state, taken, NOW_MS)?.slot;
    return { slot, laidOut: ms.mock.calls.length };
  } finally {
    ms.mockRestore();
  }
}

test("of many slots that cost the same only the lowest is laid out", () => {
  const half = Array.from({ length: 128 }, (_, slot) => slot);
  for (const plugGaps of [true, false]) {
    expect(placesLaidOut([], plugGaps)).toEqual({ slot: 0, laidOut: 1 });
    expect(placesLaidOut(half, plugGaps)).toEqual({ slot: 128, laidOut: 1 });
  }
  const every = (nth: number): number[] =>
    Array.from({ length: 256 }, (_, slot) => slot).filter((slot) => slot % nth === 0);
  expect(placesLaidOut(every(2), true)).toEqual({ slot: 1, laidOut: 1 });
  // Gaps of 20 are left open; a slot beside a busy one makes its pass wider.
  expect(placesLaidOut(every(21), true)).toEqual({ slot: 1, laidOut: 1 });
});

test("a lower slot that costs the same for another reason is chosen before those that cost it for their places", () => {
  const state = schedulerState({ slots: 4, plugGaps: false });
  // Ten cells that somebody surely comes back for cost as much as three steps of two passes.
  const kept = state.slots[1];
  addRequest(state, "r", { maxTokens: 3 });
  const request = state.requests.get("r");
  if (request === undefined || kept === undefined) throw new Error("There is no request, or no slot.");
  kept.tokens.fill(9000, 0, 10);
  Object.assign(kept, { length: 10, gridEnd: 10, tailEnd: 10, lastUseMs: NOW_MS, hits: 1000 });
  const taken = { busy: [0], overwritten: new Set<number>(), kept: new Map<number, never>() };
  const choice = chooseSlot(request, state, taken, NOW_MS);
  expect(choice).toEqual(plainChoice(request, state, [0]));
  expect(choice?.slot).toBe(1);
  kept.length = 11;
  expect(chooseSlot(request, state, taken, NOW_MS)?.slot).toBe(2);
});
