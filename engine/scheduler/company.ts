/** Slots that decode together: what a step of theirs takes, whoever they will be. */
import { decodeCallMs } from "./cost-model.ts";
import type { SchedulerState } from "./types.ts";

/** Slots that decode together. */
export interface Company {
  readonly slots: number;
  /** Of all of them. */
  readonly cells: number;
  readonly decodeMs: number;
  /** Of the tokens of a step. */
  readonly drawMs: number;
}

export const NOBODY: Company = { slots: 0, cells: 0, decodeMs: 0, drawMs: 0 };

/** So many slots, if they were like those in use, which are looked at once however often that is asked. */
export function companies({ slots: all, cost }: SchedulerState): (slots: number) => Company {
  let [busy, busyCells] = [0, 0];
  for (const { owner, length } of all) {
    if (owner === undefined) continue;
    busy += 1;
    busyCells += length;
  }
  return (slots) => {
    if (slots === 0) return NOBODY;
    const cells = busy === 0 ? 0 : (slots * busyCells) / busy;
    return {
      slots,
      cells,
      decodeMs: decodeCallMs(cost, [slots], 0, cells),
      drawMs: slots * (cost.drawMs ?? 0),
    };
  };
}
