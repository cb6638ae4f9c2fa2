/**
 * A device that computes nothing: how long its calls take, from their shape alone.
 *
 * It is what the simulator holds for the truth. The planner does not see it; it sees what a warm-up would measure
 * of it, and learns from each call, as it does with a real device.
 */
import { calibratedCostModel, DEEP_CELLS } from "../scheduler/cost-model.ts";
import { adjacentRuns } from "../scheduler/passes.ts";
import type { CostModel, PlannedCall } from "../scheduler/types.ts";

/** Times in ms. */
export interface DeviceModel {
  readonly name: string;
  /** A decode pass over so many adjacent empty slots, at index width; beyond the last one it goes on as steeply. */
  readonly decodePassMs: readonly number[];
  /** What each slot of a decode pass adds for every 256 cells of the longest of them. */
  readonly decodeCellsMs: number;
  readonly prefillCallMs: number;
  readonly prefillTokenMs: number;
  /** What each prompt token adds for every 1000 cells before it. */
  readonly prefillCellsMs: number;
  /** Copying a slot, which runs with the call after it. */
  readonly copyMs: number;
  /** Drawing tokens behind a decode call, and each of them. */
  readonly sampleCallMs: number;
  readonly sampleTokenMs: number;
  /** Of every step: planning, messages, waiting for the event loop. */
  readonly stepMs: number;
}

/** Attention reads whole blocks of so many cells. */
const CELL_BLOCK = 256;

/** A pass of `emptyMs` and `slotMs` for each slot, for devices whose widths nobody has measured. */
export function straightPasses(emptyMs: number, slotMs: number): number[] {
  return [0, emptyMs + slotMs, emptyMs + 2 * slotMs];
}

export function passMs({ decodePassMs: table }: Pick<DeviceModel, "decodePassMs">, width: number): number {
  const known = table.length - 1;
  const last = table[known] ?? 0;
  if (width <= known) return table[width] ?? 0;
  return last + (width - known) * Math.max(0, last - (table[known - 1] ?? 0));
}

/** What decode calls consist of: for each device pass its width and the cells of its longest slot, in blocks. */
export function decodePasses(
  entries: readonly { readonly slot: number; readonly position: number; readonly tokens: number }[],
): { readonly width: number; readonly blocks: number }[] {
  const bySlot = new Map(entries.map((entry) => [entry.slot, entry]));
  return adjacentRuns(entries.map(({ slot }) => slot)).map(({ first, last }) => {
    let longest = 0;
    for (let slot = first; slot <= last; slot++) {
      const entry = bySlot.get(slot);
      if (entry !== undefined) longest = Math.max(longest, entry.position + entry.tokens);
    }
    return { width: last - first + 1, blocks: Math.ceil(longest / CELL_BLOCK) };
  });
}

/** Cells that the tokens of a prefill entry look at, in thousands, summed over the tokens. */
export function prefillCells(position: number, tokens: number): number {
  return (tokens * (position + tokens / 2)) / 1000;
}

/** The native call alone, without guesses: those are not simulated. */
export function callMs(device: DeviceModel, call: PlannedCall): number {
  if (call.kind === "prefill") {
    let ms = device.prefillCallMs;
    for (const { position, tokens } of call.entries)
      ms +=
        tokens.length * device.prefillTokenMs + prefillCells(position, tokens.length) * device.prefillCellsMs;
    return ms;
  }
  let ms = 0;
  const { entries } = call;
  // The loop of `decodePasses`, without its objects: this runs for every simulated step.
  for (let i = 0; i < entries.length;) {
    const from = i;
    let longest = 0;
    let slot = entries[i]?.slot ?? 0;
    for (; i < entries.length && entries[i]?.slot === slot; i++, slot++)
      longest = Math.max(longest, (entries[i]?.position ?? 0) + 1);
    const width = i - from;
    ms += passMs(device, width) + width * Math.ceil(longest / CELL_BLOCK) * device.decodeCellsMs;
  }
  return ms;
}

/** What the engine would measure of the device at warm-up. */
export function measuredCosts(
  device: DeviceModel,
  { slots, prefillChunk }: { readonly slots: number; readonly prefillChunk: number },
): CostModel {
  const widths: number[] = [];
  for (let width = 1; width < slots; width *= 2) widths.push(width);
  const prefillMs = (tokens: number, before = 0): number =>
    device.prefillCallMs +
    tokens * device.prefillTokenMs +
    prefillCells(before, tokens) * device.prefillCellsMs;
  const decodeMs = (width: number): number => passMs(device, width) + width * device.decodeCellsMs;
  const deepBlocks = Math.ceil((DEEP_CELLS * prefillChunk + 1) / CELL_BLOCK);
  const deepDecodeMs = passMs(device, 1) + deepBlocks * device.decodeCellsMs;
  return calibratedCostModel({
    decode: [...widths, slots].map((width) => ({ width, ms: decodeMs(width) })),
    prefill: [Math.ceil(prefillChunk / 4), prefillChunk].map((tokens) => ({ tokens, ms: prefillMs(tokens) })),
    deep: { cells: DEEP_CELLS * prefillChunk, ms: prefillMs(prefillChunk, DEEP_CELLS * prefillChunk) },
    deepDecode: { cells: DEEP_CELLS * prefillChunk, ms: deepDecodeMs },
    check: [2, 4, 8, 16].map((tokens) => ({ tokens, ms: decodeMs(tokens) })),
    copyMs: device.copyMs,
  });
}

/** Named devices: a small model on two cores as measured, and a larger one on a GPU, whose ratios are estimates. */
export const DEVICES = {
  /** SmolLM2-135M, Q4_1, 2 cores. */
  cpu: {
    name: "cpu: 135M parameters, 2 cores",
    decodePassMs: straightPasses(10.5, 5.5),
    decodeCellsMs: 0.6,
    prefillCallMs: 5,
    prefillTokenMs: 2.4,
    prefillCellsMs: 0.3,
    copyMs: 9,
    sampleCallMs: 0.3,
    sampleTokenMs: 0.3,
    stepMs: 0.5,
  },
  /** A pass costs as much as 50 of its tokens: reading the weights is what takes time. */
  gpu: {
    name: "gpu: 8B parameters, estimated",
    decodePassMs: straightPasses(6, 0.12),
    decodeCellsMs: 0.012,
    prefillCallMs: 6,
    prefillTokenMs: 0.032,
    prefillCellsMs: 0.002,
    copyMs: 0.4,
    sampleCallMs: 0.2,
    sampleTokenMs: 0.1,
    stepMs: 0.5,
  },
} as const satisfies Record<string, DeviceModel>;

/** The device with a pass that costs `ratio` times as much as one more slot in it; a pass over one slot costs the same. */
export function withCostRatio(device: DeviceModel, ratio: number): DeviceModel {
  const one = passMs(device, 1);
  const tokenMs = one / (ratio + 1);
  return {
    ...device,
    name: `${device.name}, a/b ${ratio}`,
    decodePassMs: straightPasses(one - tokenMs, tokenMs),
  };
}
