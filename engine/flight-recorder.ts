/**
 * Keeps the last steps, so that what happened can be looked at afterwards: who was in which call, or with the prefill
 * worker, what it was expected to take, what it took, and why it was planned so.
 *
 * A step costs a few short arrays and no look at a token. Bounded in steps, in numbers and in requests.
 */
import { performance } from "node:perf_hooks";
import type { RequestId } from "./protocol.ts";
import type { Offload, PlannedCall, ScheduledRequest, SchedulerState, StepPlan } from "./scheduler/types.ts";
import { ENTRY_NUMBERS } from "./timeline.ts";
import type {
  OffloadEnd,
  RecordedCall,
  RecordedEviction,
  RecordedOffload,
  RecordedRequest,
  RecordedStep,
  RecordedTransfer,
  RequestEnd,
  Timeline,
} from "./timeline.ts";

/** Entries of all calls that are kept, each of 32 bytes: 16 MiB, whatever the number of slots. */
const MOST_ENTRIES = 1 << 19;
/** Ended requests, and offloads, that are kept at least, where steps are few. */
const LEAST_ENDED = 1000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type OpenStep = Omit<Mutable<RecordedStep>, "calls" | "transfers"> & {
  readonly calls: Mutable<RecordedCall>[];
  transfers?: RecordedTransfer[];
};

/** A request and what is still to be read of it at its end. */
interface OpenRequest {
  readonly request: ScheduledRequest;
  /** As it came: both may change. */
  readonly priority: number;
  readonly resumedTokens: number;
}

export class FlightRecorder {
  readonly #capacity: number;
  /** A ring: the oldest step is at `#steps[#first % capacity]`, the newest before `#next`. */
  readonly #steps: OpenStep[] = [];
  #first = 0;
  #next = 0;
  #entries = 0;
  readonly #open = new Map<RequestId, OpenRequest>();
  /** In order of their ends. */
  #ended: RecordedRequest[] = [];
  /** In order of their beginnings; the last one may be under way. */
  #offloads: Mutable<RecordedOffload>[] = [];
  /** The step under way, and its last call. */
  #step: OpenStep | undefined;
  #call: Mutable<RecordedCall> | undefined;

  /** @param capacity Steps to keep; 0 records nothing. */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** A request that has been queued. */
  arrived(request: ScheduledRequest): void {
    if (this.#capacity === 0) return;
    const { priority, output } = request;
    this.#open.set(request.id, { request, priority, resumedTokens: output.length });
  }

  /** Does nothing for a request that has ended already. */
  ended(id: RequestId, end: RequestEnd, nowMs: number): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    this.#open.delete(id);
    this.#ended.push({ ...recordOf(open), endMs: nowMs, end });
    this.#ended = this.#newest(this.#ended);
  }

  /** A prompt that the prefill worker is given; it has one at a time. */
  beginOffload({ requests }: SchedulerState, { request: id, slot, tokens }: Offload, startMs: number): void {
    if (this.#capacity === 0) return;
    const request = requests.get(id)?.arrival ?? -1;
    this.#offloads.push({
      request,
      slot,
      tokens: tokens.length,
      startMs,
      endMs: undefined,
      deviceMs: 0,
      end: undefined,
    });
    this.#offloads = this.#newest(this.#offloads);
  }

  /** The worker has had the device for so long. */
  offloadRan(ms: number): void {
    const last = this.#offloads.at(-1);
    if (last?.end === undefined && last !== undefined) last.deviceMs += ms;
  }

  /** Does nothing where it has ended already. */
  endOffload(end: OffloadEnd, nowMs: number): void {
    const last = this.#offloads.at(-1);
    if (last?.end === undefined && last !== undefined) Object.assign(last, { end, endMs: nowMs });
  }

  /** Half at a time: shifting one by one would touch all of them for each. */
  #newest<T>(list: T[]): T[] {
    const most = Math.max(LEAST_ENDED, this.#capacity);
    return list.length >= 2 * most ? list.slice(-most) : list;
  }

  /** A step whose plan has been begun. */
  beginStep(state: SchedulerState, plan: StepPlan, startMs: number): void {
    if (this.#capacity === 0) return;
    const step: OpenStep = {
      step: this.#next + 1,
      startMs,
      planMs: 0,
      sideMs: 0,
      running: state.requests.size - state.queue.size,
      queued: state.queue.size,
      creditMs: plan.prefillCreditMs,
      admitted: admissionsOf(state, plan),
      ...(plan.evictions.length > 0 ? { evicted: evictionsOf(state, plan) } : {}),
      calls: [],
      why: plan.why,
    };
    const away = this.#offloads.at(-1)?.request;
    if (step.evicted?.some(({ request }) => request === away) === true) this.endOffload("left", startMs);
    if (this.#next - this.#first === this.#capacity) this.#dropOldest();
    this.#steps[this.#next % this.#capacity] = step;
    this.#next += 1;
    this.#step = step;
  }

  planned(ms: number): void {
    if (this.#step !== undefined) this.#step.planMs = ms;
  }

  /** Before the first call. */
  transferred(transfer: RecordedTransfer): void {
    const step = this.#step;
    if (step !== undefined) (step.transfers ??= []).push(transfer);
  }

  /** @param draftMs What the draft model took before it. */
  beginCall(state: SchedulerState, call: PlannedCall, startMs: number, draftMs = 0): void {
    const step = this.#step;
    if (step === undefined) return;
    this.#call = {
      kind: call.kind,
      startMs,
      ms: undefined,
      sampleMs: 0,
      predictedMs: call.predictedMs,
      passes: call.passes,
      drafts: call.drafts,
      ...(draftMs > 0 ? { draftMs } : {}),
      entries: entriesOf(state, call),
    };
    step.calls.push(this.#call);
    this.#entries += call.entries.length;
    while (this.#entries > MOST_ENTRIES && this.#next - this.#first > 1) this.#dropOldest();
  }

  endCall(ms: number): void {
    if (this.#call !== undefined) this.#call.ms = ms;
  }

  sampled(ms: number): void {
    if (this.#call !== undefined) this.#call.sampleMs = ms;
  }

  /** @param sideMs Native work outside of slots since the last call. */
  endStep(sideMs: number): void {
    if (this.#step !== undefined) this.#step.sideMs = sideMs;
    this.#step = undefined;
    this.#call = undefined;
  }

  /** @param most Steps to tell of, the newest. */
  timeline({ config: { fairness: _private, ...config }, cost }: SchedulerState, most: number): Timeline {
    const steps: RecordedStep[] = [];
    for (let i = Math.max(this.#first, this.#next - most); i < this.#next; i++) {
      const step = this.#steps[i % this.#capacity];
      if (step !== undefined) steps.push(step);
    }
    const sinceMs = steps[0]?.startMs ?? Infinity;
    const requests = [
      ...this.#ended.filter(({ endMs = 0 }) => endMs >= sinceMs),
      ...Array.from(this.#open.values(), (open) => recordOf(open)),
    ].sort((a, b) => a.request - b.request);
    const offloads = this.#offloads.filter(({ endMs = Infinity }) => endMs >= sinceMs);
    const originEpochMs = performance.timeOrigin;
    return { originEpochMs, capacity: this.#capacity, config, cost, steps, offloads, requests };
  }

  #dropOldest(): void {
    const place = this.#first % this.#capacity;
    for (const { entries } of this.#steps[place]?.calls ?? [])
      this.#entries -= entries.length / ENTRY_NUMBERS;
    this.#first += 1;
  }
}

function recordOf({ request, priority, resumedTokens }: OpenRequest): RecordedRequest {
  return {
    request: request.arrival,
    id: request.id,
    owner: request.tenant,
    priority,
    promptTokens: request.prompt.length,
    resumedTokens,
    maxNewTokens: request.maxNew,
    arrivalMs: request.arrivalMs,
    outputTokens: request.output.length,
    endMs: undefined,
    end: undefined,
  };
}

function admissionsOf({ requests }: SchedulerState, { assignments }: StepPlan): number[] {
  const numbers: number[] = [];
  for (const { request, slot, reuse, copyFrom } of assignments)
    numbers.push(requests.get(request)?.arrival ?? -1, slot, reuse, copyFrom ?? -1);
  return numbers;
}

function evictionsOf({ requests }: SchedulerState, { evictions }: StepPlan): RecordedEviction[] {
  const numberOf = (id: RequestId): number => requests.get(id)?.arrival ?? -1;
  return evictions.map(({ request, slot, waiter, kind }) => ({
    request: numberOf(request),
    slot,
    waiter: numberOf(waiter),
    kind,
  }));
}

function entriesOf({ requests }: SchedulerState, { entries }: PlannedCall): number[] {
  const numbers: number[] = [];
  for (const { slot, request, position, tokens } of entries)
    numbers.push(
      slot,
      request === undefined ? -1 : (requests.get(request)?.arrival ?? -1),
      position,
      tokens.length,
    );
  return numbers;
}
