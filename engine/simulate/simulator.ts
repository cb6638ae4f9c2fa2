/**
 * The scheduler under a clock that jumps: the same plans and transitions as in the engine, with calls that take the
 * time that a device model says.
 *
 * Requests come from a trace, which may be longer than memory, and from what earlier ones lead to. Tokens are numbers
 * that never repeat, so that exactly those prompts share a prefix that are meant to. Nothing is guessed.
 */
import { EngineError } from "../errors.ts";
import { checkPlan, checkState } from "../scheduler/invariants.ts";
import { noteFirstToken } from "../scheduler/forecast-margin.ts";
import { planStep } from "../scheduler/plan-step.ts";
import { givesWay } from "../scheduler/returns.ts";
import {
  appendToken,
  beginStep,
  cancel,
  completeCall,
  createState,
  release,
  releaseCancelled,
  submit,
} from "../scheduler/transitions.ts";
import { wantedCall } from "../scheduler/wanted-call.ts";
import { callMs, measuredCosts } from "./device.ts";
import { EventHeap } from "./event-heap.ts";
import type {
  PlannedCall,
  ScheduledRequest,
  SchedulerConfig,
  SchedulerState,
  StepPlan,
} from "../scheduler/types.ts";
import type { DeviceModel } from "./device.ts";

/** Tokens `first`, `first + 1`, ... */
export interface TokenRun {
  readonly first: number;
  readonly tokens: number;
}

export interface SimulatedRequest {
  readonly arrivalMs: number;
  readonly tenant: string;
  /** Class, 0 is the highest. */
  readonly priority: number;
  readonly prompt: readonly TokenRun[];
  /** Tokens after which the model ends by itself; its numbers count up from `first`. */
  readonly output: TokenRun;
  /** What the client allows; undefined is the rest of the context. */
  readonly maxTokens: number | undefined;
  /** Time after its arrival at which its client leaves; undefined never. */
  readonly patienceMs: number | undefined;
  /** How late its first token may come; it is refused where that is not to be expected, and not ended where it is late. Absent: any. */
  readonly firstTokenWithinMs?: number;
  /** Tells who comes back after a refusal; absent: nobody who has been here before. */
  readonly visitor?: string;
  /** What its client asks next, when and how this one has ended, and after how many ms it is told to come back where it is refused. */
  readonly next?: (endMs: number, end: SimulatedEnd, toldMs?: number) => SimulatedRequest | undefined;
}

export type SimulatedEnd = "done" | "cancelled" | "refused";

/** A request as it goes through the simulation. */
export interface LiveRequest {
  readonly spec: SimulatedRequest;
  readonly id: string;
  promptTokens: number;
  admittedMs: number | undefined;
  firstTokenMs: number | undefined;
  lastTokenMs: number | undefined;
  outputTokens: number;
  cachedTokens: number;
  scheduled: ScheduledRequest | undefined;
}

/** A request that has just come. */
export function newcomer(spec: SimulatedRequest, id: string, promptTokens: number): LiveRequest {
  return {
    spec,
    id,
    promptTokens,
    admittedMs: undefined,
    firstTokenMs: undefined,
    lastTokenMs: undefined,
    outputTokens: 0,
    cachedTokens: 0,
    scheduled: undefined,
  };
}

/** Receives what happens, in order of time. */
export interface SimulationObserver {
  arrived(request: LiveRequest, nowMs: number): void;
  admitted(request: LiveRequest): void;
  /** @param gapMs Since the token before, or for the first one since the arrival. */
  token(request: LiveRequest, gapMs: number): void;
  ended(request: LiveRequest, end: SimulatedEnd, nowMs: number): void;
  called(call: PlannedCall, ms: number): void;
  stepped(state: SchedulerState, plan: StepPlan, nowMs: number): void;
}

export interface SimulationOptions {
  readonly config: SchedulerConfig;
  readonly device: DeviceModel;
  /** How long a call takes that begins now, and of which the device model says `ms`. */
  readonly lasts: (nowMs: number, ms: number) => number;
  /** Whether every plan and state is checked. */
  readonly check: boolean;
  /** Whether the scheduler learns whose a request is and of which class; absent is yes. */
  readonly fair?: boolean;
}

export interface SimulationTotals {
  /** Of the simulated clock, when the last request ended. */
  readonly endMs: number;
  readonly steps: number;
}

/** An operator would wait for ever as well: no trace makes so many steps without an end of a request. */
const MOST_IDLE_STEPS = 10_000_000;

export function simulate(
  trace: Iterable<SimulatedRequest>,
  options: SimulationOptions,
  observer: SimulationObserver,
): SimulationTotals {
  return new Simulation(trace, options, observer).run();
}

class Simulation {
  readonly #state: SchedulerState;
  readonly #options: SimulationOptions;
  readonly #observer: SimulationObserver;
  readonly #trace: Iterator<SimulatedRequest>;
  #upcoming: SimulatedRequest | undefined;
  /** What follows from earlier requests, and clients that lose their patience. */
  readonly #events = new EventHeap<SimulatedRequest | LiveRequest>();
  readonly #live = new Map<string, LiveRequest>();
  /** Who got each slot last. */
  readonly #holders: (LiveRequest | undefined)[] = [];
  #nowMs = 0;
  #steps = 0;
  #serial = 0;
  #lastEndStep = 0;

  constructor(trace: Iterable<SimulatedRequest>, options: SimulationOptions, observer: SimulationObserver) {
    this.#options = options;
    this.#observer = observer;
    this.#state = createState(options.config, measuredCosts(options.device, options.config));
    this.#trace = trace[Symbol.iterator]();
    this.#upcoming = this.#pull();
  }

  run(): SimulationTotals {
    for (;;) {
      this.#deliver();
      for (const id of releaseCancelled(this.#state, this.#nowMs)) this.#endCancelled(id);
      const plan = planStep(this.#state, this.#nowMs);
      if (this.#options.check) {
        checkState(this.#state);
        checkPlan(this.#state, plan);
      }
      if (plan.calls.length > 0) this.#step(plan);
      else if (!this.#wait()) return { endMs: this.#nowMs, steps: this.#steps };
    }
  }

  #step(plan: StepPlan): void {
    const { device } = this.#options;
    this.#steps += 1;
    if (this.#steps - this.#lastEndStep > MOST_IDLE_STEPS)
      throw new EngineError("internal", "The simulation makes steps and no request ends.");
    beginStep(this.#state, plan, this.#nowMs);
    for (const { request, slot } of plan.assignments) this.#admitted(request, slot);
    this.#nowMs += device.stepMs;
    let copies = 0;
    for (const { type } of plan.boundary) if (type === "copy") copies += 1;
    for (const planned of plan.calls) {
      // What has come meanwhile was heard between the calls.
      this.#deliver();
      if (plan.calls[0]?.kind === "decode" && givesWay(this.#state, planned, this.#nowMs)) break;
      const call = wantedCall(this.#state, planned);
      if (call === undefined) continue;
      const ms = this.#options.lasts(this.#nowMs, callMs(device, call) + copies * device.copyMs);
      copies = 0;
      this.#nowMs += ms;
      completeCall(this.#state, call, ms);
      this.#observer.called(call, ms);
      if (call.kind === "decode") this.#draw(call);
    }
    this.#observer.stepped(this.#state, plan, this.#nowMs);
  }

  #draw(call: PlannedCall): void {
    const { device } = this.#options;
    this.#deliver();
    let drawn = 0;
    for (const entry of call.entries) if (entry.sample) drawn += 1;
    this.#nowMs += device.sampleCallMs + drawn * device.sampleTokenMs;
    for (const { request: id, slot, sample } of call.entries) {
      const live = sample ? this.#holders[slot] : undefined;
      const scheduled = live?.scheduled;
      if (live === undefined || scheduled === undefined || live.id !== id || scheduled.cancelled) continue;
      const { output } = live.spec;
      appendToken(this.#state, scheduled, output.first + scheduled.output.length);
      live.outputTokens += 1;
      this.#observer.token(live, this.#nowMs - (live.lastTokenMs ?? live.spec.arrivalMs));
      if (live.firstTokenMs === undefined) noteFirstToken(this.#state, scheduled, this.#nowMs);
      live.firstTokenMs ??= this.#nowMs;
      live.lastTokenMs = this.#nowMs;
      const { length } = scheduled.output;
      if (length < output.tokens && length < scheduled.maxNew) continue;
      release(this.#state, scheduled, this.#nowMs);
      this.#end(live, "done");
    }
  }

  #admitted(id: string, slot: number): void {
    const live = this.#live.get(id);
    this.#holders[slot] = live;
    if (live === undefined || live.admittedMs !== undefined) return;
    live.admittedMs = this.#nowMs;
    live.cachedTokens = live.scheduled?.cachedTokens ?? 0;
    this.#observer.admitted(live);
  }

  /** Everything that happens up to now. */
  #deliver(): void {
    while ((this.#upcoming?.arrivalMs ?? Infinity) <= this.#nowMs && this.#upcoming !== undefined) {
      this.#submit(this.#upcoming);
      this.#upcoming = this.#pull();
    }
    for (let event = this.#events.popUntil(this.#nowMs); event !== undefined;) {
      if ("spec" in event) {
        if (this.#live.has(event.id)) this.#leave(event);
      } else this.#submit(event);
      event = this.#events.popUntil(this.#nowMs);
    }
  }

  #submit(spec: SimulatedRequest): void {
    const id = String(this.#serial++);
    const prompt = promptOf(spec.prompt);
    const live = newcomer(spec, id, prompt.length);
    this.#observer.arrived(live, this.#nowMs);
    this.#live.set(id, live);
    try {
      const who = this.#options.fair === false ? NOBODY : spec;
      submit(this.#state, newRequest(live.id, spec, who, prompt), spec.arrivalMs);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      this.#end(live, "refused", error.details?.["retryAfterMs"]);
      return;
    }
    live.scheduled = this.#state.requests.get(id);
    if (spec.patienceMs !== undefined) this.#events.push(spec.arrivalMs + spec.patienceMs, live);
  }

  #leave(live: LiveRequest): void {
    cancel(this.#state, live.id, this.#nowMs);
    // A running one is released at the next boundary.
    if (!this.#state.requests.has(live.id)) this.#end(live, "cancelled");
  }

  #endCancelled(id: string): void {
    const live = this.#live.get(id);
    if (live !== undefined) this.#end(live, "cancelled");
  }

  #end(live: LiveRequest, end: SimulatedEnd, toldMs?: number): void {
    this.#live.delete(live.id);
    this.#lastEndStep = this.#steps;
    this.#observer.ended(live, end, this.#nowMs);
    const next = live.spec.next?.(this.#nowMs, end, toldMs);
    if (next !== undefined) this.#events.push(next.arrivalMs, next);
  }

  /** @returns False when nothing will come any more. */
  #wait(): boolean {
    const untilMs = Math.min(this.#upcoming?.arrivalMs ?? Infinity, this.#events.nextMs ?? Infinity);
    if (untilMs === Infinity) return false;
    this.#nowMs = Math.max(this.#nowMs, untilMs);
    return true;
  }

  #pull(): SimulatedRequest | undefined {
    const { done, value } = this.#trace.next();
    return done === true ? undefined : value;
  }
}

type Who = Pick<SimulatedRequest, "tenant" | "priority">;

/** Whose all requests are where none is told from another. */
const NOBODY: Who = { tenant: "anonymous", priority: 1 };

function newRequest(
  id: string,
  { maxTokens, firstTokenWithinMs, visitor = id }: SimulatedRequest,
  { tenant, priority }: Who,
  prompt: Uint32Array,
): Parameters<typeof submit>[1] {
  return {
    id,
    tenant,
    priority,
    prompt,
    cacheKey: "",
    reusePrefix: true,
    readsPrompt: false,
    maxTokens,
    firstTokenWithinMs,
    visitor: () => visitor,
    resume: NO_TOKENS,
  };
}

const NO_TOKENS = new Uint32Array(0);

function promptOf(runs: readonly TokenRun[]): Uint32Array {
  const prompt = new Uint32Array(runs.reduce((sum, { tokens }) => sum + tokens, 0));
  let at = 0;
  for (const { first, tokens } of runs) for (let i = 0; i < tokens; i++) prompt[at++] = first + i;
  return prompt;
}
