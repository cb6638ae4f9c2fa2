/**
 * Plays a recording again in the simulator and says how far it is from what happened.
 *
 * By default the device is fitted to every other call and judged by those between, because machines change their speed, and
 * the whole run is simulated on a machine that is as fast at each moment as it was: that judges the scheduler's
 * simulation. With a device that was fitted to another recording nothing but arrivals, lengths and shared prefixes is taken from this
 * one: that is a prediction. Prompts are made up so that they share what their originals were seen to share.
 */
import { beginsAnew, callEntries, fitDevice, modelledMs } from "../../engine/simulate/fit-device.ts";
import type { DeviceModel } from "../../engine/simulate/device.ts";
import { newcomer, simulate } from "../../engine/simulate/simulator.ts";
import type {
  LiveRequest,
  SimulatedRequest,
  SimulationOptions,
  TokenRun,
} from "../../engine/simulate/simulator.ts";
import { ADMISSION_NUMBERS } from "../../engine/timeline.ts";
import type { RecordedCall, RecordedRequest, RecordedStep } from "../../engine/timeline.ts";
import { Collector } from "./collector.ts";
import type { Objective, SimulationReport } from "./collector.ts";
import { asFastAs } from "./machine-speed.ts";
import { deviceName } from "./read-timeline.ts";
import type { Recording } from "./read-timeline.ts";

export interface CallErrors {
  readonly kind: "decode" | "prefill";
  readonly calls: number;
  /** Of all these calls together, in ms. */
  readonly realMs: number;
  readonly modelMs: number;
  /** What the engine's own planner expected of them. */
  readonly plannedMs: number;
}

export interface Replay {
  readonly device: DeviceModel;
  /** Calls of this recording that it was fitted to. */
  readonly learnt: number;
  /** Of the calls that the device was not fitted to. */
  readonly errors: readonly CallErrors[];
  readonly real: SimulationReport;
  readonly simulated: SimulationReport;
  /** Share of the recorded decode calls with guessed tokens, which a simulation does not make. */
  readonly guessingShare: number;
  /** Requests whose prompts were computed elsewhere than in the recorded calls, which a simulation does not do either. */
  readonly elsewhere: number;
}

/**
 * @param how On a device that was fitted to another recording; whether every plan and state is checked.
 * @throws {RangeError} When the recording is too short, or begins in the middle of what it tells of.
 */
export function replay(
  recording: Recording,
  objective: Objective,
  {
    device: other,
    check = false,
  }: { readonly device?: DeviceModel | undefined; readonly check?: boolean } = {},
): Replay {
  const steps = fromFresh(recording.steps);
  const calls = steps.flatMap((step) => step.calls);
  const trace = traceOf(recording, steps);
  const { device, learnt, kept, lasts } =
    other === undefined
      ? ownDevice(recording, steps, calls)
      : { device: other, learnt: 0, kept: calls, lasts: unchanged };
  const collector = new Collector(objective);
  const config = { ...recording.config, speculate: false };
  const totals = simulate(trace, { config, device, lasts, check }, collector);
  const decodes = calls.filter(({ kind }) => kind === "decode");
  return {
    device,
    learnt,
    errors: callErrors(kept, device),
    real: realReport(steps, trace, recording, objective),
    simulated: collector.report(totals),
    guessingShare: decodes.filter(({ drafts }) => drafts > 0).length / Math.max(1, decodes.length),
    elsewhere: computedElsewhere(recording, steps),
  };
}

/** On the average machine of the other recording. */
const unchanged: SimulationOptions["lasts"] = (_nowMs, ms) => ms;

function ownDevice(
  recording: Recording,
  steps: readonly RecordedStep[],
  calls: readonly RecordedCall[],
): {
  readonly device: DeviceModel;
  readonly learnt: number;
  readonly kept: readonly RecordedCall[];
  readonly lasts: SimulationOptions["lasts"];
} {
  const { learnt, kept } = everyOther(calls);
  const fitted = fitDevice(deviceName(recording), recording, steps, learnt);
  const lasts = asFastAs(fitted.speed, firstArrivalMs(recording, steps));
  return { device: fitted.device, learnt: fitted.calls, kept, lasts };
}

/** When the first of the requests came that are played. */
function firstArrivalMs({ requests }: Recording, steps: readonly RecordedStep[]): number {
  const played = admittedIn(steps);
  return Math.min(...requests.filter(({ request }) => played.has(request)).map(({ arrivalMs }) => arrivalMs));
}

function admittedIn(steps: readonly RecordedStep[]): Set<number> {
  return new Set(steps.flatMap(({ admitted }) => admitted.filter((_, i) => i % ADMISSION_NUMBERS === 0)));
}

/** Of each kind by itself, so that no rhythm of the steps decides which are taken. */
function everyOther(calls: readonly RecordedCall[]): { learnt: RecordedCall[]; kept: RecordedCall[] } {
  const [learnt, kept]: [RecordedCall[], RecordedCall[]] = [[], []];
  for (const kind of ["decode", "prefill"] as const) {
    const own = calls.filter((call) => call.kind === kind);
    own.forEach((call, i) => (i % 2 === 0 ? learnt : kept).push(call));
  }
  return { learnt, kept };
}

function callErrors(recorded: readonly RecordedCall[], device: DeviceModel): CallErrors[] {
  const calls = recorded.filter(({ ms, drafts }) => ms !== undefined && drafts === 0);
  return (["decode", "prefill"] as const).map((kind) => {
    const own = calls.filter((call) => call.kind === kind);
    const sum = (valueOf: (call: RecordedCall) => number): number =>
      own.reduce((total, call) => total + valueOf(call), 0);
    return {
      kind,
      calls: own.length,
      realMs: sum(({ ms = 0 }) => ms),
      modelMs: sum((call) => modelledMs(device, call)),
      plannedMs: sum(({ predictedMs }) => predictedMs),
    };
  });
}

/** Requests that have said something although no call computed all of their prompts that was not reused. */
function computedElsewhere({ requests }: Recording, steps: readonly RecordedStep[]): number {
  const there = new Map<number, number>();
  const add = (request: number, tokens: number): void =>
    void there.set(request, (there.get(request) ?? 0) + tokens);
  for (const { admitted, calls } of steps) {
    for (let at = 0; at < admitted.length; at += ADMISSION_NUMBERS)
      add(admitted[at] ?? -1, admitted[at + 2] ?? 0);
    for (const call of calls)
      if (call.kind === "prefill") for (const { request, tokens } of callEntries(call)) add(request, tokens);
  }
  // The last token is fed by a decode.
  return requests.filter(
    ({ request, promptTokens, outputTokens }) =>
      outputTokens > 0 && (there.get(request) ?? promptTokens) < promptTokens - 1,
  ).length;
}

/** The steps from the first one on before which the engine had nobody. */
function fromFresh(steps: readonly RecordedStep[]): readonly RecordedStep[] {
  const first = steps.findIndex(beginsAnew);
  if (first === -1)
    throw new RangeError(
      "The recording has no moment at which the engine was idle: its requests cannot be played again.",
    );
  return steps.slice(first);
}

/** The recorded requests as the simulator takes them, in order of arrival; times count from the first. */
function traceOf(recording: Recording, steps: readonly RecordedStep[]): SimulatedRequest[] {
  const { requests, config } = recording;
  const known = new Map(requests.map((request) => [request.request, request]));
  const contents: TokenRun[][] = Array.from({ length: config.slots }, () => []);
  const prompts = new Map<number, readonly TokenRun[]>();
  const outputs = new Map<number, TokenRun>();
  let next = 1;
  const fresh = (tokens: number): TokenRun => {
    next += tokens;
    return { first: next - tokens, tokens };
  };
  for (const { admitted } of steps) {
    for (let at = 0; at < admitted.length; at += ADMISSION_NUMBERS) {
      const [number = -1, slot = 0, reuse = 0, copyFrom = -1] = admitted.slice(at, at + ADMISSION_NUMBERS);
      const request = known.get(number);
      if (request === undefined || prompts.has(number)) continue;
      const kept = beginning(contents[copyFrom === -1 ? slot : copyFrom] ?? [], reuse);
      const held = kept.reduce((sum, { tokens }) => sum + tokens, 0);
      const prompt = [...kept, fresh(request.promptTokens + request.resumedTokens - held)];
      // One that was stopped from outside would have gone on.
      const output = fresh(request.end === "cancelled" ? request.maxNewTokens : request.outputTokens);
      prompts.set(number, prompt);
      outputs.set(number, output);
      contents[slot] = [...prompt, output];
    }
  }
  const played = requests.filter(({ request }) => prompts.has(request));
  const originMs = firstArrivalMs(recording, steps);
  return played
    .map((request): SimulatedRequest => ({
      arrivalMs: request.arrivalMs - originMs,
      tenant: request.owner,
      priority: request.priority,
      prompt: prompts.get(request.request) ?? [],
      output: outputs.get(request.request) ?? { first: 0, tokens: 0 },
      maxTokens: request.maxNewTokens,
      patienceMs:
        request.end === "cancelled" && request.endMs !== undefined
          ? request.endMs - request.arrivalMs
          : undefined,
    }))
    .sort((a, b) => a.arrivalMs - b.arrivalMs);
}

function beginning(runs: readonly TokenRun[], most: number): TokenRun[] {
  const kept: TokenRun[] = [];
  let room = most;
  for (const { first, tokens } of runs) {
    if (room > 0) kept.push({ first, tokens: Math.min(tokens, room) });
    room -= tokens;
  }
  return kept;
}

/** What happened, told to the same collector as what is simulated. */
function realReport(
  steps: readonly RecordedStep[],
  trace: readonly SimulatedRequest[],
  recording: Recording,
  objective: Objective,
): SimulationReport {
  const collector = new Collector(objective);
  const { requests } = recording;
  const originMs = firstArrivalMs(recording, steps);
  const live = new Map<number, { record: RecordedRequest; request: LiveRequest }>();
  const bySerial = [...requests].sort((a, b) => a.arrivalMs - b.arrivalMs);
  const playable = admittedIn(steps);
  const specs = [...trace];
  for (const record of bySerial) {
    if (!playable.has(record.request)) continue;
    const spec = specs.shift();
    if (spec === undefined) break;
    const arrivalMs = record.arrivalMs - originMs;
    const request = newcomer({ ...spec, arrivalMs }, record.id, record.promptTokens);
    collector.arrived(request);
    live.set(record.request, { record, request });
  }
  let endMs = 0;
  for (const step of steps) {
    const { admitted } = step;
    for (let at = 0; at < admitted.length; at += ADMISSION_NUMBERS) {
      const { request } = live.get(admitted[at] ?? -1) ?? {};
      if (request === undefined || request.admittedMs !== undefined) continue;
      request.admittedMs = step.startMs - originMs;
      request.cachedTokens = admitted[at + 2] ?? 0;
      collector.admitted(request);
    }
    for (const call of step.calls) {
      collector.called({ passes: call.passes, entries: callEntries(call).map(plugsAsNobody) });
      endMs = call.startMs + (call.ms ?? 0) + call.sampleMs - originMs;
      if (call.kind === "decode") drawn(call, endMs, live, collector);
    }
  }
  for (const { record, request } of live.values()) {
    if (record.end === "stop" || record.end === "length")
      collector.ended(request, "done", request.lastTokenMs ?? endMs);
    else if (record.endMs !== undefined) collector.ended(request, "cancelled", record.endMs - originMs);
  }
  return collector.report({ endMs, steps: steps.length });
}

function plugsAsNobody({ request }: { readonly request: number }): { readonly request: number | undefined } {
  return { request: request === -1 ? undefined : request };
}

function drawn(
  call: RecordedCall,
  nowMs: number,
  live: ReadonlyMap<number, { record: RecordedRequest; request: LiveRequest }>,
  collector: Collector,
): void {
  for (const { request: number, position } of callEntries(call)) {
    const { record, request } = live.get(number) ?? {};
    if (record === undefined || request === undefined) continue;
    // Tokens before the last known one are fed without drawing.
    if (position < record.promptTokens + record.resumedTokens - 1) continue;
    request.outputTokens += 1;
    collector.token(request, nowMs - (request.lastTokenMs ?? request.spec.arrivalMs));
    request.firstTokenMs ??= nowMs;
    request.lastTokenMs = nowMs;
  }
}
