/** Gathers what steps produced and cost until the next message takes it, and the totals since the start. */
import { StepCounts } from "./step-counts.ts";
import type { EngineEvent, RequestId, RequestMove, StepOutput } from "./protocol.ts";
import type { CheckpointReport, SpillReport, StepReport } from "./step-report.ts";
import type { OffloadReport } from "./prefill-worker/messages.ts";
import type {
  EvictionKind,
  PlannedCall,
  ScheduledRequest,
  SchedulerState,
  StepPlan,
} from "./scheduler/types.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function noSpill(): Mutable<SpillReport> {
  return {
    saved: 0,
    restored: 0,
    restoredTokens: 0,
    dropped: 0,
    saveFailures: 0,
    restoreFailures: 0,
    ms: 0,
  };
}

function noCheckpoints(): Mutable<CheckpointReport> {
  return { taken: 0, restored: 0, restoredTokens: 0, dropped: 0, failures: 0, ms: 0 };
}

/** What calls took that ran as they were planned, and what was expected of them, in ms. */
interface Compared {
  ms: number;
  expectedMs: number;
}

const nothingCompared = (): Compared => ({ ms: 0, expectedMs: 0 });

function ratioOf({ ms, expectedMs }: Compared): number | undefined {
  return expectedMs > 0 ? ms / expectedMs : undefined;
}

function noOffloads(): Mutable<OffloadReport> {
  return { prompts: 0, tokens: 0, ms: 0, failures: 0 };
}

/** Whether nobody is waiting for it: tokens behind others, with more to come. */
function isPatient({ tokens, start, finish, prefill }: StepOutput): boolean {
  return tokens.length > 0 && start === undefined && finish === undefined && prefill === undefined;
}

/** Two outputs of a request as one; undefined where that would say less: what was guessed counts for each, and so do reports. */
function merged(first: StepOutput, second: StepOutput): StepOutput | undefined {
  const isPlain = ({ guessed = 0, prefill, tokens }: StepOutput): boolean =>
    guessed === 0 && prefill === undefined && tokens.length > 0;
  if (!isPlain(first) || !isPlain(second) || second.start !== undefined) return undefined;
  const { logprobs } = first;
  if ((logprobs === undefined) !== (second.logprobs === undefined)) return undefined;
  return {
    ...first,
    tokens: [...first.tokens, ...second.tokens],
    logprobs: logprobs && [...logprobs, ...(second.logprobs ?? [])],
    finish: second.finish,
  };
}

/** One of so many messages tells what calls cost by now; between two of them it changes little. */
const MESSAGES_OF_COST = 64;

export class StepRecord {
  readonly #state: SchedulerState;
  #messages = 0;
  /** Totals since the start. */
  steps = 0;
  passes = 0;
  promptTokens = 0;
  reusedTokens = 0;
  outputTokens = 0;
  evictions = 0;
  readonly counts: StepCounts;
  /** Since the last message. */
  spill = noSpill();
  checkpoints = noCheckpoints();
  offload = noOffloads();
  /** Whether something goes on of which nothing else tells. */
  alive = false;
  /** Since the last message, in ms. */
  planMs = 0;
  sampleMs = 0;
  #decodeMs = 0;
  #prefillMs = 0;
  #decodeSequences = 0;
  #prefillTokens = 0;
  #passes = 0;
  #plugs = 0;
  #compared = { decode: nothingCompared(), prefill: nothingCompared() };
  #guessesRight = 0;
  #guessesWrong = 0;
  #modelGuessesRight = 0;
  #modelGuessesWrong = 0;
  #draftMs = 0;
  #evictions: Partial<Record<EvictionKind, number>> = {};
  #outputs: StepOutput[] = [];
  #moves: RequestMove[] = [];
  /** Of the steps before the last one whose tokens wait. */
  #sealed: StepReport[] = [];
  /** Where in them the last one of a request is. */
  readonly #lastOf = new Map<RequestId, number>();
  /** Since when the first of them, or of the moves, waits. */
  #sinceMs = 0;
  /** Whether one of them is more than tokens behind others. */
  #urgent = false;

  constructor(state: SchedulerState) {
    this.#state = state;
    this.counts = new StepCounts(state);
  }

  addEvictions(evictions: StepPlan["evictions"]): void {
    this.evictions += evictions.length;
    for (const { kind } of evictions) this.#evictions[kind] = (this.#evictions[kind] ?? 0) + 1;
  }

  addCall(call: PlannedCall, ms: number): void {
    this.passes += call.passes;
    this.#passes += call.passes;
    if (call.unscaledMs > 0) {
      const compared = this.#compared[call.kind];
      compared.ms += ms;
      compared.expectedMs += call.predictedMs - (call.drafting?.predictedMs ?? 0);
    }
    if (call.kind === "decode") {
      this.#decodeMs += ms;
      this.#decodeSequences += call.entries.filter((entry) => entry.sample).length;
      this.#plugs += call.entries.filter((entry) => entry.request === undefined).length;
    } else {
      this.#prefillMs += ms;
      this.#prefillTokens += call.tokens;
    }
  }

  /** What the draft model took. */
  addDrafting(ms: number): void {
    this.#draftMs += ms;
  }

  /** @param byModel Whether the guesses were the draft model's. */
  addOutput(output: StepOutput, byModel = false): void {
    this.outputTokens += output.tokens.length;
    const { guessed = 0, tokens } = output;
    // A request that wanted no token has none at all.
    const right = Math.max(0, Math.min(guessed, tokens.length - 1));
    this.#guessesRight += right;
    this.#guessesWrong += guessed - right;
    if (byModel) {
      this.#modelGuessesRight += right;
      this.#modelGuessesWrong += guessed - right;
    }
    this.#noteSince();
    if (!isPatient(output)) this.#urgent = true;
    const at = this.#lastOf.get(output.id);
    const before = at === undefined ? undefined : this.#outputs[at];
    const both = before && merged(before, output);
    if (at !== undefined && both !== undefined) this.#outputs[at] = both;
    else this.#lastOf.set(output.id, this.#outputs.push(output) - 1);
  }

  /** Who is about to get a slot, or to lose one. Who has a token has been heard of otherwise. */
  addMoves({ evictions, assignments }: StepPlan): void {
    const add = (id: RequestId, to: RequestMove["to"]): void => {
      if (this.#state.requests.get(id)?.output.length !== 0) return;
      this.#noteSince();
      this.#moves.push({ id, to });
    };
    for (const { request } of evictions) add(request, "queue");
    for (const { request } of assignments) add(request, "prefill");
  }

  #noteSince(): void {
    if (this.#isEmpty) this.#sinceMs = performance.now();
  }

  get #isEmpty(): boolean {
    return this.#outputs.length + this.#moves.length === 0;
  }

  /** Since when there is something to send that may wait for more; undefined where there is nothing, or what may not wait. */
  get patientSinceMs(): number | undefined {
    return this.#isEmpty || this.#urgent ? undefined : this.#sinceMs;
  }

  /** Counts a request's prompt, once its prefill is done. */
  addPrompt(request: ScheduledRequest): void {
    this.promptTokens += request.prompt.length;
    this.reusedTokens += request.cachedTokens;
  }

  /** The report of the calls so far, if there were any, is complete; their tokens wait for those of the next steps. */
  seal(): void {
    if (this.#passes > 0) this.#sealed.push(this.#takeReport());
  }

  /** The message for everything since the last one; undefined when nothing was done. */
  takeStep(): EngineEvent | undefined {
    if (this.#passes === 0 && this.#isEmpty && !this.alive) return undefined;
    // Of a step that has just begun there is nothing to tell yet.
    const last = this.#passes === 0 ? this.#sealed.pop() : undefined;
    const report = last ?? this.#takeReport();
    this.alive = false;
    this.#messages += 1;
    const event: EngineEvent = {
      type: "step",
      outputs: this.#outputs,
      ...(this.#moves.length > 0 ? { moves: this.#moves } : {}),
      ...(this.#sealed.length > 0 ? { before: this.#sealed } : {}),
      report: this.#messages % MESSAGES_OF_COST === 0 ? { ...report, cost: this.#state.cost } : report,
    };
    this.#outputs = [];
    this.#moves = [];
    this.#sealed = [];
    this.#lastOf.clear();
    this.#urgent = false;
    return event;
  }

  #takeReport(): StepReport {
    const [decodeRatio, prefillRatio] = [ratioOf(this.#compared.decode), ratioOf(this.#compared.prefill)];
    const report: StepReport = {
      planMs: this.planMs,
      decodeMs: this.#decodeMs,
      sampleMs: this.sampleMs,
      prefillMs: this.#prefillMs,
      decodeSequences: this.#decodeSequences,
      prefillTokens: this.#prefillTokens,
      passes: this.#passes,
      running: this.#state.requests.size - this.#state.queue.size,
      queued: this.#state.queue.size,
      usedCells: this.#state.slots.reduce((cells, slot) => cells + slot.length, 0),
      plugs: this.#plugs,
      ...(decodeRatio === undefined ? {} : { decodeRatio }),
      ...(prefillRatio === undefined ? {} : { prefillRatio }),
      guessesRight: this.#guessesRight,
      guessesWrong: this.#guessesWrong,
      modelGuessesRight: this.#modelGuessesRight,
      modelGuessesWrong: this.#modelGuessesWrong,
      draftMs: this.#draftMs,
      ...(Object.keys(this.#evictions).length > 0 ? { evictions: this.#evictions } : {}),
      ...this.counts.take(),
      ...(this.spill.ms > 0 ? { spill: this.spill } : {}),
      ...(this.checkpoints.ms > 0 ? { checkpoints: this.checkpoints } : {}),
      ...(this.offload.prompts + this.offload.failures > 0 ? { offload: this.offload } : {}),
    };
    this.planMs = 0;
    this.sampleMs = 0;
    this.#decodeMs = 0;
    this.#prefillMs = 0;
    this.#decodeSequences = 0;
    this.#prefillTokens = 0;
    this.#passes = 0;
    this.#plugs = 0;
    this.#compared = { decode: nothingCompared(), prefill: nothingCompared() };
    this.#guessesRight = 0;
    this.#guessesWrong = 0;
    this.#modelGuessesRight = 0;
    this.#modelGuessesWrong = 0;
    this.#draftMs = 0;
    this.#evictions = {};
    // In the middle of changes their time is not known yet, and what they did is told with it.
    if (report.spill !== undefined) this.spill = noSpill();
    if (report.checkpoints !== undefined) this.checkpoints = noCheckpoints();
    this.offload = noOffloads();
    return report;
  }
}
