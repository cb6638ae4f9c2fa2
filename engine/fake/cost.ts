/** What the calls of the fake model are said to cost. */
import type { CostModel } from "../scheduler/types.ts";

/** In ms: a pass 10 and 1 a slot, a prompt token 2, a copy 5; all of it `slowness` times as much. */
export function fakeCost(slots: number, slowness: number): CostModel {
  return {
    decodePassMs: Array.from({ length: slots + 1 }, (_, width) =>
      width === 0 ? 0 : slowness * (10 + width),
    ),
    checkPassMs: Array.from({ length: 17 }, (_, tokens) => (slowness * tokens) / 4),
    prefillCallMs: slowness * 10,
    prefillTokenMs: slowness * 2,
    copyMs: slowness * 5,
    decodeScale: 1,
    draftScale: 1,
    prefillScale: 1,
    spill: {
      fileBytes: 0,
      tokenBytes: 4,
      save: { callMs: 0.01, byteMs: 1e-4, scale: 1 },
      restore: { callMs: 0.01, byteMs: 1e-4, scale: 1 },
    },
    checkpoint: {
      fileBytes: 100,
      tokenBytes: 1,
      save: { callMs: 0.01, byteMs: 0, scale: 1 },
      restore: { callMs: 0.01, byteMs: 0, scale: 1 },
    },
  };
}
