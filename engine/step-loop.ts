/**
 * Runs steps while there is work: plan, change cells, decode, sample, prefill, report.
 *
 * Results are sent while the next native call computes, so the device never waits for a message. Owns the
 * scheduler's state and the samplers; everybody else goes through `change`.
 */
import { performance } from "node:perf_hooks";
import { CellChanges } from "./cell-changes.ts";
import { countDrawn, drawTokens } from "./draws.ts";
import type { Draws } from "./draws.ts";
import { EngineError, asEngineError } from "./errors.ts";
import type { Guessed } from "./drafter.ts";
import { DeviceTurns } from "./device-turns.ts";
import { LoopSleep } from "./loop-sleep.ts";
import { Offloads } from "./offloads.ts";
import { noteFirstToken } from "./scheduler/forecast-margin.ts";
import { noteDecodeStep } from "./scheduler/guess-record.ts";
import { takeExpired } from "./scheduler/deadlines.ts";
import { checkStep } from "./scheduler/invariants.ts";
import { planStep } from "./scheduler/plan-step.ts";
import { givesWay } from "./scheduler/returns.ts";
import {
  appendToken,
  beginStep,
  cancel,
  completeCall,
  isCurrent,
  release,
  releaseCancelled,
  truncateSlot,
} from "./scheduler/transitions.ts";
import { wantedCall } from "./scheduler/wanted-call.ts";
import type { PrefillComputer } from "./prefill-worker/client.ts";
import type { PromptLogprobCollector } from "./prompt-logprobs.ts";
import type { SpillStore } from "./spill-store.ts";
import type { StepLoopLinks } from "./step-loop-links.ts";
import { PrefillReports, startInfo } from "./prefill-reports.ts";
import { StepMail } from "./step-mail.ts";
import { StepRecord } from "./step-record.ts";
import type { Backend, BatchRun, LogitsHandle, Sampled, Sampler } from "./backend.ts";
import type { RequestEnd } from "./timeline.ts";
import type { Finish, GenerationParams, RequestId, StartInfo, StepOutput } from "./protocol.ts";
import type { PlannedCall, PlannedEntry, ScheduledRequest, SchedulerState } from "./scheduler/types.ts";

/** Set to check every plan and state: tests and debugging. */
const CHECK_INVARIANTS = process.env["WEFT_CHECK_INVARIANTS"] === "1";

/** What reads a request's logits, and tells of its prompt. */
interface Readers {
  readonly sampler: Sampler;
  readonly promptLogprobs: PromptLogprobCollector | undefined;
  /** Whether the request is told how far its prompt is. */
  readonly reportsPrefill: boolean;
}

interface Generation extends Readers {
  readonly stopTokens: ReadonlySet<number>;
}

export class StepLoop {
  readonly state: SchedulerState;
  readonly record: StepRecord;
  readonly #backend: Backend;
  readonly #links: StepLoopLinks;
  readonly #cells: CellChanges;
  readonly #prefills: PrefillReports;
  readonly #endTokens: ReadonlySet<number>;
  readonly #turns: DeviceTurns;
  readonly #mail: StepMail;
  readonly #send = (): void => this.#mail.send();
  readonly #generations = new Map<RequestId, Generation>();
  readonly #sleep = new LoopSleep();
  #stopping = false;
  readonly #done: Promise<void>;

  constructor(state: SchedulerState, backend: Backend, links: StepLoopLinks) {
    this.state = state;
    this.#backend = backend;
    this.#links = links;
    this.#endTokens = new Set(backend.facts.endTokens);
    this.record = new StepRecord(state);
    this.#mail = new StepMail({ record: this.record, emit: links.emit, gatherMs: links.gatherMs ?? 0 });
    this.#prefills = new PrefillReports(state, (output) => this.record.addOutput(output));
    const { record } = this;
    this.#cells = new CellChanges({ state, backend, store: links.spill, record, recorder: links.recorder });
    const { counts } = record;
    this.#turns = new DeviceTurns({ state, links, counts, sleep: this.#sleep, send: this.#send });
    this.#done = this.#run();
  }

  get hasDraftModel(): boolean {
    return this.#links.drafter !== undefined;
  }

  /** Long prompts may be computed there. */
  offloadTo(computer: PrefillComputer, store: SpillStore): Offloads {
    const { state, record } = this;
    const { recorder } = this.#links;
    const [backend, prefills, wake] = [this.#backend, this.#prefills, () => this.#sleep.wake()];
    const parts = { state, record, recorder, backend, prefills, wake };
    return (this.#turns.offloads = new Offloads({ ...parts, computer, store }));
  }

  /** Changes the state outside of steps and wakes the loop. */
  change(apply: (state: SchedulerState, nowMs: number) => void): void {
    apply(this.state, performance.now());
    this.#sleep.wake();
  }

  /** A waiting request is gone at once, a running one when the call in flight has ended. */
  cancel(id: RequestId): void {
    this.change((state, nowMs) => {
      cancel(state, id, nowMs);
      if (state.requests.has(id)) this.record.counts.cancelled(id, nowMs);
      else this.#collectReleased([id], nowMs);
    });
  }

  /** Tells how a submitted request draws its tokens and when it ends. */
  addRequest(id: RequestId, params: GenerationParams, readers: Readers): void {
    const stopTokens = new Set(params.stopTokenIds);
    if (!params.ignoreEos) for (const token of this.#endTokens) stopTokens.add(token);
    this.#generations.set(id, { ...readers, stopTokens });
    if (readers.reportsPrefill) this.#prefills.watch(id);
    const request = this.state.requests.get(id);
    if (request !== undefined) this.#links.recorder.arrived(request);
  }

  /** Resolves when nothing runs or waits. */
  idle(): Promise<void> {
    return this.state.requests.size === 0 ? Promise.resolve() : this.#sleep.untilIdle();
  }

  /** Ends after the call in flight; open requests get no more events. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#turns.close();
    await this.#done;
    this.#mail.close();
    for (const id of this.#generations.keys()) this.#dropGeneration(id);
    this.#turns.offloads?.close();
    this.#cells.close();
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      try {
        this.#turns.beginRound();
        const worked = await this.#step();
        this.#turns.go();
        await this.#turns.pause(worked);
      } catch (error) {
        this.#turns.go();
        this.#failEverything(error);
      }
    }
  }

  /** @returns False when there was nothing to do. */
  async #step(): Promise<boolean> {
    const startMs = performance.now();
    const { offloads } = this.#turns;
    this.#releaseCancelled();
    this.#endExpired(startMs);
    if (!this.#turns.mayCompute()) return false;
    if (offloads !== undefined) await offloads.settle(this.#send);
    const plan = planStep(this.state, startMs);
    if (CHECK_INVARIANTS) checkStep(this.state, plan, (slot) => this.#backend.cellCount(slot));
    this.record.counts.planned(plan, startMs);
    if (plan.calls.length === 0) {
      this.#send();
      if (this.state.requests.size === 0) this.#sleep.notifyIdle();
      return this.#runSideWork();
    }
    this.record.counts.begins(plan);
    beginStep(this.state, plan, startMs);
    if (plan.offload !== undefined) offloads?.begin(plan.offload);
    offloads?.hold();
    this.#links.recorder.beginStep(this.state, plan, startMs);
    this.record.addEvictions(plan.evictions);
    this.record.addMoves(plan);
    const { intact, keepingMs } = await this.#cells.change(plan.boundary);
    const planMs = performance.now() - startMs;
    this.record.steps += 1;
    this.record.planMs += planMs - keepingMs;
    this.#links.recorder.planned(planMs);
    // Where cells are missing that were to be read from a file or a checkpoint, the calls have to be planned again.
    for (const call of intact ? plan.calls : []) {
      if (call !== plan.calls[0]) await this.#turns.between();
      if (plan.calls[0]?.kind === "decode" && givesWay(this.state, call, performance.now())) break;
      if (this.#stopping) break;
      const wanted = wantedCall(this.state, call);
      if (wanted !== undefined) await this.#runCall(wanted);
    }
    if (this.#links.sideWork.pending) await this.#turns.between();
    const sideStartMs = performance.now();
    const worked = await this.#runSideWork();
    const endMs = performance.now();
    this.#links.recorder.endStep(worked ? endMs - sideStartMs : 0);
    this.record.counts.stepEnded(this.#turns.workedMs);
    return true;
  }

  /** Ends what has run out of time: with what it has, or without anything. */
  #endExpired(nowMs: number): void {
    for (const request of takeExpired(this.state, nowMs)) {
      if (request.output.length === 0) {
        this.#failRequest(request, new EngineError("deadline_exceeded", "The request ran out of time."));
        continue;
      }
      const finish: Finish = { reason: "length", stopToken: undefined };
      this.record.addOutput({ id: request.id, tokens: [], logprobs: undefined, start: undefined, finish });
      this.#release(request, "length");
    }
  }

  /** @returns False when there was nothing to do. */
  async #runSideWork(): Promise<boolean> {
    if (this.#stopping || !this.#links.sideWork.pending) return false;
    this.#turns.offloads?.hold();
    const piece = this.#links.sideWork.runPiece();
    this.#send();
    await piece;
    this.record.counts.callEnded(performance.now());
    return true;
  }

  async #runCall(planned: PlannedCall): Promise<void> {
    const { call, ms: draftMs } = await this.#guess(planned);
    const startMs = performance.now();
    this.#links.recorder.beginCall(this.state, call, startMs, draftMs);
    this.#prefills.begin(call, startMs);
    this.record.counts.callBegins(call, startMs - draftMs);
    const run = this.#backend.run(call.entries, call.adapters);
    const early = this.#backend.drawsInOrder ? this.#startDraws(call, run) : undefined;
    this.#mail.sendBeside(call.predictedMs);
    try {
      await run.done;
    } catch (error) {
      await early;
      this.record.counts.rests();
      return this.#recover(call, error);
    }
    const endMs = performance.now();
    this.record.addCall(call, endMs - startMs);
    this.record.counts.callEnded(endMs);
    this.#links.recorder.endCall(endMs - startMs);
    completeCall(this.state, call, endMs - startMs);
    this.#cells.noteFirst(call);
    this.#prefills.advance(call, endMs);
    if (call.kind === "prefill") return this.#readPrompt(call, run, endMs);
    const drawing = call.entries.filter((entry) => entry.sample);
    const draws = await (early ?? this.#startDraws(call, run));
    drawing.forEach((entry, i) => {
      this.#links.drafter?.learn(this.state, entry, draws[i]);
      this.#dropWrongGuesses(entry, draws[i]);
    });
    this.#takeDraws(drawing, draws);
    for (const plug of call.entries)
      if (plug.request === undefined) this.#backend.truncate(plug.slot, plug.position);
    const nowMs = performance.now();
    this.#noteSampling(nowMs - endMs);
    const seen = { tokens: countDrawn(draws), drawMs: nowMs - endMs, ms: nowMs - startMs, draftMs };
    noteDecodeStep(this.state, call, seen);
  }

  /** Results of the last call travel while the draft model guesses for this one. */
  async #guess(call: PlannedCall): Promise<Guessed> {
    if (this.#links.drafter === undefined || call.drafting === undefined) return { call, ms: 0 };
    const guessed = await this.#links.drafter.guess(this.state, call, this.#send);
    this.record.addDrafting(guessed.ms);
    return guessed;
  }

  #noteSampling(ms: number): void {
    this.record.sampleMs += ms;
    this.#links.recorder.sampled(ms);
  }

  /** Reads the logits of prompt tokens, where somebody wants them; a request whose logits cannot be read fails. */
  async #readPrompt({ entries }: PlannedCall, { logits }: BatchRun, startMs: number): Promise<void> {
    const reading = entries.filter((entry) => entry.everyLogit === true);
    let next = 0;
    for (const { request: id = "", position, tokens } of reading) {
      const handles = logits.slice(next, (next += tokens.length));
      try {
        await this.#generations.get(id)?.promptLogprobs?.add(position, handles);
      } catch (error) {
        const request = this.state.requests.get(id);
        if (request !== undefined) this.#failRequest(request, asEngineError(error));
      }
    }
    if (reading.length > 0) this.#noteSampling(performance.now() - startMs);
  }

  /** Never rejects. */
  #startDraws(call: PlannedCall, { logits }: BatchRun): Promise<Draws[]> {
    if (call.kind === "prefill") return Promise.resolve([]);
    const each = 1 + call.drafts;
    const drawing = call.entries.filter((entry) => entry.sample);
    return Promise.all(drawing.map((entry, i) => this.#draw(entry, logits.slice(i * each, (i + 1) * each))));
  }

  /** Takes the cells of guesses back that were wrong, or not looked at. */
  #dropWrongGuesses({ slot: id, position, tokens }: PlannedEntry, draws: Draws | undefined): void {
    const slot = this.state.slots[id];
    const right = draws === undefined || draws instanceof EngineError ? 0 : draws.length - 1;
    if (slot === undefined || right === tokens.length - 1) return;
    truncateSlot(slot, position + 1 + right);
    this.#backend.truncate(id, position + 1 + right);
  }

  #takeDraws(entries: readonly PlannedEntry[], draws: readonly Draws[]): void {
    const nowMs = performance.now();
    draws.forEach((drawn, i) => {
      const entry = entries[i];
      const request = this.state.requests.get(entry?.request ?? "");
      if (request === undefined || request.cancelled) return;
      if (request.maxNew === 0) this.#endUngenerated(request, nowMs);
      else if (drawn instanceof EngineError) this.#failRequest(request, drawn);
      else this.#accept(request, drawn, { entry, nowMs });
    });
  }

  async #draw(entry: PlannedEntry, logits: readonly LogitsHandle[]): Promise<Draws> {
    const generation = this.#generations.get(entry.request ?? "");
    const request = this.state.requests.get(entry.request ?? "");
    if (generation === undefined || request === undefined)
      return new EngineError("internal", "A decoded entry has no request.");
    return drawTokens(entry, logits, request, generation);
  }

  /** Takes sampled tokens into the request and its output, and ends the request if the last was its last. */
  #accept(
    request: ScheduledRequest,
    draws: readonly Sampled[],
    { entry, nowMs }: { readonly entry: PlannedEntry | undefined; readonly nowMs: number },
  ): void {
    const { id } = request;
    const start = request.output.length === 0 ? this.#startOf(request, nowMs) : undefined;
    if (start !== undefined) noteFirstToken(this.state, request, nowMs);
    let finish: Finish | undefined;
    for (const { token } of draws) {
      appendToken(this.state, request, token);
      finish = this.#finishOf(request, token);
    }
    const logprobs = draws.flatMap((drawn) => drawn.logprobs ?? []);
    const output: StepOutput = {
      id,
      tokens: draws.map(({ token }) => token),
      logprobs: logprobs.length === draws.length ? logprobs : undefined,
      start,
      finish,
      guessed: entry?.guesses ?? 0,
      ofPrediction: entry?.ofPrediction ?? false,
    };
    this.record.addOutput(output, entry?.byModel);
    if (start !== undefined) this.record.addPrompt(request);
    if (finish !== undefined) this.#release(request, finish.stopToken === undefined ? "length" : "stop");
  }

  /** Of a request that wanted no tokens the prompt has been computed; what was drawn behind it is thrown away. */
  #endUngenerated(request: ScheduledRequest, nowMs: number): void {
    this.record.addOutput({
      id: request.id,
      tokens: [],
      logprobs: undefined,
      start: this.#startOf(request, nowMs),
      finish: { reason: "length", stopToken: undefined },
    });
    this.record.addPrompt(request);
    this.#release(request, "length");
  }

  #startOf(request: ScheduledRequest, nowMs: number): StartInfo {
    const promptLogprobs = this.#generations.get(request.id)?.promptLogprobs?.take();
    return { ...startInfo(request, nowMs), promptLogprobs };
  }

  #finishOf(request: ScheduledRequest, token: number): Finish | undefined {
    if (this.#generations.get(request.id)?.stopTokens.has(token) === true)
      return { reason: "stop", stopToken: token };
    if (request.output.length >= request.maxNew) return { reason: "length", stopToken: undefined };
    return undefined;
  }

  /**
   * After a failed call: drop what it may have left, then run its entries one by one, so that only the request
   * that cannot be computed fails.
   */
  async #recover(call: PlannedCall, error: unknown): Promise<void> {
    // A model that cannot rewind cannot drop half a call either: its sequences are lost.
    if (call.entries.length === 1 || !this.#backend.canRewind) {
      for (const entry of call.entries) this.#failEntry(entry, asEngineError(error));
      return;
    }
    for (const entry of call.entries) this.#backend.truncate(entry.slot, entry.position);
    for (const entry of call.entries) {
      if (!isCurrent(this.state, entry)) continue;
      await this.#runCall({
        ...call,
        entries: [entry],
        tokens: entry.tokens.length,
        passes: 1,
        unscaledMs: 0,
      });
    }
  }

  #failEntry(entry: PlannedEntry, error: EngineError): void {
    const slot = this.state.slots[entry.slot];
    const request = this.state.requests.get(entry.request ?? "");
    if (slot !== undefined) truncateSlot(slot, 0);
    this.#backend.truncate(entry.slot, 0);
    if (request !== undefined) this.#failRequest(request, error);
  }

  #failRequest(request: ScheduledRequest, error: EngineError): void {
    this.#send();
    this.#release(request, "failed");
    this.#links.emit({
      type: "failed",
      id: request.id,
      code: error.code,
      message: error.message,
      details: error.details,
    });
  }

  /** A broken invariant or a bug: no state can be trusted, so every request fails and every cell goes. */
  #failEverything(error: unknown): void {
    const failure = asEngineError(error);
    for (const request of this.state.requests.values()) this.#failRequest(request, failure);
    for (const slot of this.state.draft?.slots ?? []) slot.length = 0;
    this.#cells.drop();
  }

  #releaseCancelled(): void {
    const nowMs = performance.now();
    this.#collectReleased(releaseCancelled(this.state, nowMs), nowMs);
  }

  #release(request: ScheduledRequest, end: RequestEnd): void {
    const nowMs = performance.now();
    release(this.state, request, nowMs);
    this.#links.recorder.ended(request.id, end, nowMs);
    this.record.counts.gone(request.id, nowMs);
    this.#dropGeneration(request.id);
  }

  /** Frees the samplers of cancelled requests that have left the state. */
  #collectReleased(ids: readonly RequestId[], nowMs: number): void {
    for (const id of ids) {
      this.#links.recorder.ended(id, "cancelled", nowMs);
      this.record.counts.gone(id, nowMs);
      this.#dropGeneration(id);
    }
  }

  #dropGeneration(id: RequestId): void {
    const generation = this.#generations.get(id);
    generation?.sampler.dispose();
    generation?.promptLogprobs?.dispose();
    this.#generations.delete(id);
    this.#prefills.forget(id);
  }
}
