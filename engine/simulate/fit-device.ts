/** Makes a device model of a recording: what each kind of call took, by its shape. */
import { ADMISSION_NUMBERS, ENTRY_NUMBERS } from "../timeline.ts";
import { decodePasses, passMs, prefillCells } from "./device.ts";
import { nonNegativeLeastSquares } from "./least-squares.ts";
import type { RecordedCall, RecordedStep, Timeline } from "../timeline.ts";
import type { DeviceModel } from "./device.ts";

export interface FittedDevice {
  readonly device: DeviceModel;
  /** By time: how much slower or faster the machine was than on average, in each call of the recording. */
  readonly speed: readonly SpeedSpan[];
  /** Calls it was fitted to. */
  readonly calls: number;
}

/** Observed over modelled time of a call, and when it ran. */
export interface SpeedSpan {
  readonly fromMs: number;
  readonly toMs: number;
  readonly ratio: number;
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
  const calls = learnFrom.filter(isPlain);
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
  const sample = fitted(decodes, drawFeatures, ({ sampleMs }) => sampleMs);
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
  const speed = steps
    .flatMap((step) => step.calls)
    .filter(isPlain)
    .map((call): SpeedSpan => {
      const { startMs, ms = 0 } = call;
      return { fromMs: startMs, toMs: startMs + ms, ratio: ms / Math.max(1e-6, modelledMs(device, call)) };
    })
    .sort((a, b) => a.fromMs - b.fromMs);
  return { device, speed, calls: calls.length };
}

/** What takes longer than so many times what is modelled was held up by the machine, and tells nothing of calls like it. */
export const STALLED = 2;

/** Between the others, which are longest, the machine may have been elsewhere. */
const USUAL_STEPS = 0.99;

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

/** Calls that have come to their end, without guesses, which take what their texts make of them. */
function isPlain({ ms, drafts }: RecordedCall): boolean {
  return ms !== undefined && drafts === 0;
}

/**
 * The coefficients with the least sum of squared relative errors, so that one call that the machine held up for seconds is
 * one call of many; then stretched so that the sum of all times comes out right but for such calls.
 */
function fitted(
  calls: readonly RecordedCall[],
  featuresOf: (call: RecordedCall) => number[],
  timeOf: (call: RecordedCall) => number = ({ ms = 0 }) => ms,
): number[] {
  const seen = calls
    .map((call) => ({ features: featuresOf(call), ms: timeOf(call) }))
    .filter(({ ms }) => ms > 0);
  const coefficients = nonNegativeLeastSquares(
    seen.map(({ features, ms }) => features.map((feature) => feature / ms)),
    seen.map(() => 1),
  );
  let [modelled, observed] = [0, 0];
  for (const { features, ms } of seen) {
    const model = features.reduce((sum, feature, i) => sum + feature * (coefficients[i] ?? 0), 0);
    if (ms > STALLED * model) continue;
    modelled += model;
    observed += ms;
  }
  return coefficients.map((coefficient) =>
    modelled > 0 ? (coefficient * observed) / modelled : coefficient,
  );
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

/** One for the call, and one for each token that is drawn. */
function drawFeatures(call: RecordedCall): number[] {
  return [1, callEntries(call).filter(({ request }) => request !== -1).length];
}

/** Time between the beginnings of steps that follow each other at once, less what their calls took, but for stalls. */
function stepOverheadMs(steps: readonly RecordedStep[]): number {
  const times: number[] = [];
  steps.forEach((step, i) => {
    const following = steps[i + 1];
    if (following === undefined || beginsAnew(following)) return;
    const busyMs = step.calls.reduce((ms, call) => ms + (call.ms ?? 0) + call.sampleMs, step.sideMs);
    times.push(Math.max(0, following.startMs - step.startMs - busyMs));
  });
  times.sort((a, b) => a - b);
  const usual = times.slice(0, Math.ceil(times.length * USUAL_STEPS));
  return usual.reduce((sum, ms) => sum + ms, 0) / Math.max(1, usual.length);
}

/** Whether nobody who runs in this step ran before it: the engine may have been idle. */
export function beginsAnew({ running, admitted }: RecordedStep): boolean {
  return running * ADMISSION_NUMBERS <= admitted.length;
}
