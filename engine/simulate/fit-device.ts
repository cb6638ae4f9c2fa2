/** Makes a device model of a recording: what each kind of call took, by its shape. */
import { ADMISSION_NUMBERS, ENTRY_NUMBERS } from "../timeline.ts";
import { decodePasses, passMs, prefillCells } from "./device.ts";
import { nonNegativeLeastSquares } from "./least-squares.ts";
import type { RecordedCall, RecordedStep, Timeline } from "../timeline.ts";
import type { DeviceModel } from "./device.ts";

export interface FittedDevice {
  readonly device: DeviceModel;
  /**
   * Observed over modelled time of each call it was fitted to, by time: how much slower or faster the machine was at
   * that moment than on average.
   */
  readonly speed: readonly { readonly atMs: number; readonly ratio: number }[];
  /** Calls it was fitted to. */
  readonly calls: number;
}

/** Each entry of a recorded call. */
export interface CallEntry {
  readonly slot: number;
  readonly request: number;
  readonly position: number;
  readonly tokens: number;
}

export function callEntries({ entries }: RecordedCall): CallEntry[] {
  const list: CallEntry[] = [];
  for (let at = 0; at < entries.length; at += ENTRY_NUMBERS) {
    const [slot = 0, request = -1, position = 0, tokens = 0] = entries.slice(at, at + ENTRY_NUMBERS);
    list.push({ slot, request, position, tokens });
  }
  return list;
}

/**
 * @param steps Steps of the recording.
 * @param learnFrom Those of their calls that it is fitted to; absent is all.
 * @throws {RangeError} When too few calls ran to tell anything.
 */
export function fitDevice(
  name: string,
  { cost }: Timeline,
  steps: readonly RecordedStep[],
  learnFrom: readonly RecordedCall[] = steps.flatMap((step) => step.calls),
): FittedDevice {
  const calls = learnFrom.filter(({ ms, drafts }) => ms !== undefined && drafts === 0);
  const decodes = calls.filter(({ kind }) => kind === "decode");
  const prefills = calls.filter(({ kind }) => kind === "prefill");
  if (decodes.length < LEAST_CALLS)
    throw new RangeError(`A recording needs ${LEAST_CALLS} decode calls without guesses to learn from.`);
  const decode = fitted(decodes, (call) => decodeFeatures(call, cost.decodePassMs));
  // Where nothing was prefilled, what was measured at warm-up has to do.
  const prefill =
    prefills.length < LEAST_CALLS
      ? [cost.prefillCallMs * cost.prefillScale, cost.prefillTokenMs * cost.prefillScale, 0]
      : fitted(prefills, prefillFeatures);
  const sample = nonNegativeLeastSquares(
    decodes.map((call) => [1, callEntries(call).filter(({ request }) => request !== -1).length]),
    decodes.map(({ sampleMs }) => sampleMs),
  );
  const [eachPass = 0, ofTable = 0, decodeCellsMs = 0] = decode;
  const device: DeviceModel = {
    name,
    decodePassMs: cost.decodePassMs.map((ms, width) => (width === 0 ? 0 : eachPass + ofTable * ms)),
    decodeCellsMs,
    prefillCallMs: prefill[0] ?? 0,
    prefillTokenMs: prefill[1] ?? 0,
    prefillCellsMs: prefill[2] ?? 0,
    copyMs: cost.copyMs,
    sampleCallMs: sample[0] ?? 0,
    sampleTokenMs: sample[1] ?? 0,
    stepMs: stepOverheadMs(steps),
  };
  const speed = calls
    .map((call) => ({ atMs: call.startMs, ratio: (call.ms ?? 0) / Math.max(1e-6, modelledMs(device, call)) }))
    .sort((a, b) => a.atMs - b.atMs);
  return { device, speed, calls: calls.length };
}

/** Fewer say nothing about a line. */
const LEAST_CALLS = 10;

/** What the device model says of a recorded call. */
export function modelledMs(device: DeviceModel, call: RecordedCall): number {
  const coefficients =
    call.kind === "prefill"
      ? [device.prefillCallMs, device.prefillTokenMs, device.prefillCellsMs]
      : [0, 1, device.decodeCellsMs];
  const features =
    call.kind === "prefill" ? prefillFeatures(call) : decodeFeatures(call, device.decodePassMs);
  return features.reduce((sum, feature, i) => sum + feature * (coefficients[i] ?? 0), 0);
}

/** The best coefficients, stretched so that the sum of all times comes out right. */
function fitted(calls: readonly RecordedCall[], featuresOf: (call: RecordedCall) => number[]): number[] {
  const rows = calls.map(featuresOf);
  const observed = calls.map(({ ms = 0 }) => ms);
  const coefficients = nonNegativeLeastSquares(rows, observed);
  let modelled = 0;
  for (const row of rows) row.forEach((feature, i) => (modelled += feature * (coefficients[i] ?? 0)));
  const total = observed.reduce((sum, ms) => sum + ms, 0);
  return coefficients.map((coefficient) => (modelled > 0 ? (coefficient * total) / modelled : coefficient));
}

/** Passes, their times by a table of widths, and blocks of cells that slots read. */
function decodeFeatures(call: RecordedCall, table: readonly number[]): number[] {
  const passes = decodePasses(callEntries(call));
  let [tableMs, blocks] = [0, 0];
  for (const pass of passes) {
    tableMs += passMs({ decodePassMs: table }, pass.width);
    blocks += pass.width * pass.blocks;
  }
  return [passes.length, tableMs, blocks];
}

function prefillFeatures(call: RecordedCall): number[] {
  let [tokens, cells] = [0, 0];
  for (const entry of callEntries(call)) {
    tokens += entry.tokens;
    cells += prefillCells(entry.position, entry.tokens);
  }
  return [1, tokens, cells];
}

/** Time between the beginnings of steps that follow each other at once, less what their calls took. */
function stepOverheadMs(steps: readonly RecordedStep[]): number {
  let [sum, count] = [0, 0];
  steps.forEach((step, i) => {
    const following = steps[i + 1];
    if (following === undefined || beginsAnew(following)) return;
    const busyMs = step.calls.reduce((ms, call) => ms + (call.ms ?? 0) + call.sampleMs, step.sideMs);
    sum += Math.max(0, following.startMs - step.startMs - busyMs);
    count += 1;
  });
  return count === 0 ? 0 : sum / count;
}

/** Whether nobody who runs in this step ran before it: the engine may have been idle. */
export function beginsAnew({ running, admitted }: RecordedStep): boolean {
  return running * ADMISSION_NUMBERS <= admitted.length;
}
