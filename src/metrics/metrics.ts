/** What the server counts and times, as Prometheus reads it: own names, and those that readers of vLLM's and llama-server's know. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EngineStats, SlotState } from "../../engine/engine-stats.ts";
import type { EarlyPhase, InputWork, PrefixSource } from "../../engine/protocol.ts";
import type { StepReport } from "../../engine/step-report.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { STATS_WAIT_MS } from "../http/limits.ts";
import type { ModelDirectory } from "../model-directory.ts";
import type { EngineTrouble } from "../model-host.ts";
import { ITL_SECONDS, LATENCY_SECONDS, STEP_SECONDS } from "./buckets.ts";
import { DeviceMetrics } from "./device-metrics.ts";
import { LlamaAliases } from "./llama-aliases.ts";
import { CellMetrics } from "./cell-metrics.ts";
import { CheckpointMetrics } from "./checkpoint-metrics.ts";
import { ClassMetrics } from "./class-metrics.ts";
import { ServiceMetrics } from "./service-metrics.ts";
import type { Finished, Targets } from "./service-metrics.ts";
import { OffloadMetrics } from "./offload-metrics.ts";
import type { Outcome } from "./outcome.ts";
import { SpillMetrics } from "./spill-metrics.ts";
import { VllmAliases } from "./vllm-aliases.ts";

const MODEL = ["model"] as const;
const SECONDS_PER_MS = 1e-3;
const SECONDS_PER_NS = 1e-9;

const SLOT_STATES: readonly SlotState[] = ["empty", "resident", "prefill", "decode", "paused"];

/** Why a slot is taken from its request. */
const EVICTION_KINDS: readonly (keyof NonNullable<StepReport["evictions"]>)[] = [
  "class",
  "share",
  "own",
  "paused",
];

/** How often the event loop is looked at. Node reports this time as part of each delay. */
const LOOP_SAMPLE_MS = 20;

export type Endpoint = "chat" | "completions" | "embeddings" | "rerank" | "responses" | "other";
/** Where a request was when its client left: not taken by the engine yet, before its first token, or behind it. */
export type DisconnectPhase = "admission" | EarlyPhase | "decode";

export interface PromptObservation {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly cachedFrom?: PrefixSource | undefined;
  readonly queueMs: number;
  /** Part of it; absent is none. */
  readonly heldMs?: number | undefined;
  readonly prefillMs: number;
  /** From acceptance to the first token, as the server saw it. */
  readonly ttftMs: number;
}

interface Described {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
}

export class Metrics {
  /** Unix seconds at which this process began. */
  readonly startedSeconds = Math.floor(performance.timeOrigin * SECONDS_PER_MS);
  readonly #registry = new Registry();
  readonly #vllm = new VllmAliases(this.#registry);
  readonly #llama = new LlamaAliases(this.#registry);
  readonly #spill = new SpillMetrics(this.#registry);
  readonly #offload = new OffloadMetrics(this.#registry);
  readonly #checkpoints = new CheckpointMetrics(this.#registry);
  readonly #device = new DeviceMetrics(this.#registry);
  readonly #cells = new CellMetrics(this.#registry);
  readonly #service = new ServiceMetrics(this.#registry);
  readonly #classes = new ClassMetrics(this.#registry);
  readonly #lastSteps = new Map<string, StepReport>();
  readonly #loopDelay = monitorEventLoopDelay({ resolution: LOOP_SAMPLE_MS });

  readonly #running = this.#gauge("weft_requests_running", "Requests that hold a slot.", MODEL);
  readonly #waiting = this.#gauge("weft_requests_waiting", "Requests that wait for a slot.", MODEL);
  readonly #slots = this.#gauge("weft_slots", "Slots by what they do.", ["model", "state"]);
  readonly #kvUsage = this.#gauge(
    "weft_kv_cache_usage_ratio",
    "Cells in use, kept prefixes included, 0 to 1.",
    MODEL,
  );
  readonly #engineUp = this.#gauge("weft_engine_up", "Whether the engine is loaded and runs, 0 or 1.", MODEL);
  readonly #loopSeconds = this.#gauge(
    "weft_event_loop_delay_seconds",
    "Delay of the HTTP event loop since the last scrape.",
    ["quantile"],
  );
  readonly #buildInfo = this.#gauge("weft_build_info", "Always 1.", ["version"]);

  readonly #stepSeconds = this.#histogram(
    "weft_step_seconds",
    "Parts of a step of the engine, and the whole of it.",
    STEP_SECONDS,
    ["model", "kind"],
  );
  readonly #queueSeconds = this.#histogram(
    "weft_queue_seconds",
    "Accepted to slot assigned.",
    LATENCY_SECONDS,
  );
  readonly #prefillSeconds = this.#histogram(
    "weft_prefill_seconds",
    "Slot assigned to first token sampled.",
    LATENCY_SECONDS,
  );
  readonly #ttftSeconds = this.#histogram("weft_ttft_seconds", "Accepted to first token.", LATENCY_SECONDS);
  readonly #itlSeconds = this.#histogram("weft_itl_seconds", "Between two tokens of a request.", ITL_SECONDS);
  readonly #e2eSeconds = this.#histogram(
    "weft_e2e_seconds",
    "Submitted to last token, by what ended the output: an end that the model or the client has set, or a limit.",
    LATENCY_SECONDS,
    ["model", "finish_reason"],
  );

  readonly #passes = this.#counter("weft_device_passes_total", "Device passes of all calls.", MODEL);
  readonly #evictions = this.#counter(
    "weft_evictions_total",
    "Requests that lost their slot and went on later, by why: to a higher class, to an owner with less than its share, within an owner that had all it may (own), or because they were paused and somebody waited.",
    ["model", "kind"],
  );
  readonly #guesses = this.#counter(
    "weft_guessed_tokens_total",
    "Tokens guessed and checked together, by what guessed them: what was said before, or the draft model.",
    ["model", "source", "outcome"],
  );
  readonly #tokens = this.#counter(
    "weft_tokens_total",
    "Tokens by how they came about: of prompts computed and reused, of outputs, of inputs for vectors and scores, thrown away to close gaps (plug), and those that were computed once more because their request had lost its slot or its engine (recomputed).",
    ["model", "kind"],
  );
  readonly #prefixQueries = this.#counter(
    "weft_prefix_query_tokens_total",
    "Prompt tokens looked up.",
    MODEL,
  );
  readonly #prefixHits = this.#counter(
    "weft_prefix_hit_tokens_total",
    "Prompt tokens found computed.",
    MODEL,
  );
  readonly #requests = this.#counter(
    "weft_requests_total",
    "Answered requests, by outcome: ok, cancelled by the client or through /v1/requests, refused by its own limits or deadline (limited, 429) or because the server is full or not ready (overloaded, 503), not in time (late, 504), and errors of the client and of the server.",
    ["endpoint", "outcome"],
  );
  readonly #rejections = this.#counter("weft_rejections_total", "Refused requests by error code.", [
    "reason",
  ]);
  readonly #disconnects = this.#counter(
    "weft_client_disconnects_total",
    "Clients that left early, by where their request was: not taken by the engine yet (admission), waiting for a slot (queue), in one without a token yet (prefill), or behind its first token (decode).",
    ["phase"],
  );
  readonly #pauses = this.#counter(
    "weft_slow_reader_pauses_total",
    "Generations held back because their client did not read.",
    [],
  );
  readonly #stalls = this.#counter(
    "weft_event_loop_stalls_total",
    "Times that the HTTP event loop was held up for half a second or more.",
    [],
  );
  readonly #drops = this.#counter(
    "weft_connections_dropped_total",
    "Connections closed at once because there were too many.",
    [],
  );
  readonly #invalidOutputs = this.#counter(
    "weft_invalid_outputs_total",
    "Finished answers that are not what their schema says.",
    MODEL,
  );

  readonly #engineRestarts = this.#counter(
    "weft_engine_restarts_total",
    "Engines started again, by what ended the one before: a crash, a kill from outside, a planned restart.",
    ["model", "reason"],
  );
  readonly #engineStuck = this.#counter(
    "weft_engine_stuck_total",
    "Engines killed for their silence.",
    MODEL,
  );
  readonly #engineGarbled = this.#counter(
    "weft_engine_garbled_total",
    "Engines killed for saying what no engine says.",
    MODEL,
  );
  readonly #replays = this.#counter(
    "weft_replayed_requests_total",
    "Unfinished requests handed to an engine again.",
    MODEL,
  );
  readonly #convictions = this.#counter(
    "weft_crashed_requests_total",
    "Requests failed because engines died of them again and again.",
    MODEL,
  );

  constructor(version: string) {
    this.#buildInfo.set({ version }, 1);
    this.#loopDelay.enable();
  }

  /** For the model host to call after each step of a model's engine. */
  observeStep(model: string, report: StepReport): void {
    this.#lastSteps.set(model, report);
    this.#llama.observeStep(report);
    for (const [kind, ms] of [
      ["plan", report.planMs],
      ["decode", report.decodeMs],
      ["sample", report.sampleMs],
      ["prefill", report.prefillMs],
      ["spill", report.spill?.ms ?? 0],
      ["checkpoint", report.checkpoints?.ms ?? 0],
      ["draft", report.draftMs ?? 0],
      ["whole", report.stepMs ?? 0],
    ] as const) {
      // A part that did not happen is no observation.
      if (ms > 0) this.#stepSeconds.observe({ model, kind }, ms * SECONDS_PER_MS);
    }
    this.#passes.inc({ model }, report.passes);
    this.#device.observeStep(model, report);
    this.#cells.observeStep(model, report);
    this.#service.observeStep(model, report);
    this.#tokens.inc({ model, kind: "plug" }, report.plugs ?? 0);
    this.#tokens.inc({ model, kind: "recomputed" }, report.recomputed ?? 0);
    if (report.spill !== undefined) this.#spill.observeStep(model, report.spill);
    if (report.offload !== undefined) this.#offload.observeStep(model, report.offload);
    if (report.checkpoints !== undefined) this.#checkpoints.observeStep(model, report.checkpoints);
    for (const kind of EVICTION_KINDS) this.#evictions.inc({ model, kind }, report.evictions?.[kind] ?? 0);
    this.#countGuesses(model, "right", [report.guessesRight ?? 0, report.modelGuessesRight ?? 0]);
    this.#countGuesses(model, "wrong", [report.guessesWrong ?? 0, report.modelGuessesWrong ?? 0]);
  }

  /** An engine has waited so long for its turn on the device. */
  observeDeviceWait(model: string, ms: number): void {
    this.#device.observeWait(model, ms);
  }

  /** An engine has had the device for so long. */
  countDeviceTime(model: string, ms: number): void {
    this.#device.countHeld(model, ms);
  }

  #countGuesses(model: string, outcome: "right" | "wrong", [all, byModel]: readonly [number, number]): void {
    this.#guesses.inc({ model, source: "text", outcome }, all - byModel);
    this.#guesses.inc({ model, source: "draft_model", outcome }, byModel);
  }

  observePrompt(model: string, prompt: PromptObservation): void {
    this.#queueSeconds.observe({ model }, prompt.queueMs * SECONDS_PER_MS);
    this.#prefillSeconds.observe({ model }, prompt.prefillMs * SECONDS_PER_MS);
    this.#ttftSeconds.observe({ model }, prompt.ttftMs * SECONDS_PER_MS);
    this.#tokens.inc({ model, kind: "prompt_computed" }, prompt.promptTokens - prompt.cachedTokens);
    this.#tokens.inc({ model, kind: "prompt_reused" }, prompt.cachedTokens);
    this.#prefixQueries.inc({ model }, prompt.promptTokens);
    this.#prefixHits.inc({ model }, prompt.cachedTokens);
    this.#cells.observePrompt(model, prompt.cachedTokens, prompt.cachedFrom ?? "slot");
    if (prompt.heldMs !== undefined) this.#service.observeHold(model, prompt.heldMs);
    this.#vllm.observePrompt(model, prompt);
    this.#llama.observePrompt(prompt);
  }

  /** Of embeddings and of a reranking. */
  observeInputs(model: string, tokens: number, work: InputWork): void {
    this.#tokens.inc({ model, kind: "input" }, tokens);
    this.#vllm.countInputs(model, tokens);
    this.#llama.observeInputs(tokens, work);
  }

  /** Tokens that arrive together share the time since the ones before them. */
  observeTokens(model: string, count: number, gapMs: number | undefined): void {
    this.#tokens.inc({ model, kind: "output" }, count);
    this.#vllm.countOutput(model, count);
    this.#llama.countOutput(count, gapMs);
    if (gapMs === undefined) return;
    this.#service.observeGap(model, gapMs);
    const seconds = (gapMs * SECONDS_PER_MS) / count;
    for (let i = 0; i < count; i++) {
      this.#itlSeconds.observe({ model }, seconds);
      this.#vllm.observeItl(model, seconds);
    }
  }

  /** @param targets Those that make an answer a good one. */
  observeFinish(model: string, reason: "stop" | "length", finished: Finished, targets: Targets): void {
    const { e2eMs } = finished;
    this.#service.observeFinish(model, finished, targets);
    this.#e2eSeconds.observe({ model, finish_reason: reason }, e2eMs * SECONDS_PER_MS);
    this.#vllm.observeFinish(model, reason, e2eMs * SECONDS_PER_MS);
  }

  countTrouble(trouble: EngineTrouble): void {
    const { model } = trouble;
    if (trouble.kind === "death") this.#engineRestarts.inc({ model, reason: trouble.death });
    if (trouble.kind === "replay") this.#replays.inc({ model }, trouble.requests);
    if (trouble.kind === "conviction") this.#convictions.inc({ model });
    if (trouble.kind === "stuck") this.#engineStuck.inc({ model });
    if (trouble.kind === "garbled") this.#engineGarbled.inc({ model });
  }

  countRequest(endpoint: Endpoint, outcome: Outcome): void {
    this.#requests.inc({ endpoint, outcome });
  }

  /** @param reason A code of our own table, never a client's text. */
  countRejection(reason: string): void {
    this.#rejections.inc({ reason });
  }

  countDisconnect(phase: DisconnectPhase): void {
    this.#disconnects.inc({ phase });
  }

  countPause(): void {
    this.#pauses.inc();
  }

  observeReaderPause(model: string, ms: number): void {
    this.#service.observeReaderPause(model, ms);
  }

  countStall(): void {
    this.#stalls.inc();
  }

  countDrop(): void {
    this.#drops.inc();
  }

  countInvalidOutput(model: string): void {
    this.#invalidOutputs.inc({ model });
  }

  /** Of every metric, in the order of their names. */
  get families(): readonly {
    readonly name: string;
    readonly help: string;
    readonly labels: readonly string[];
  }[] {
    // The library's types leave the labels out.
    const metrics = this.#registry.getMetricsAsArray() as unknown as readonly Described[];
    return metrics
      .map(({ name, help, labelNames }) => ({ name, help, labels: labelNames }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The exposition text. Gauges are read from the engines now, or are the last step's when an engine is busy. */
  async render(models: ModelDirectory): Promise<string> {
    // An engine that is gone has no gauges, rather than those of its last moment.
    for (const gauge of [this.#slots, this.#running, this.#waiting, this.#kvUsage]) gauge.reset();
    this.#vllm.resetGauges();
    this.#llama.resetGauges();
    this.#service.resetGauges();
    this.#classes.resetGauges();
    this.#cells.resetGauges();
    this.#spill.resetGauges();
    this.#offload.resetGauges();
    this.#checkpoints.resetGauges();
    const ready = models.served.flatMap(({ loaded }) => (loaded === undefined ? [] : [loaded]));
    await Promise.all(ready.map((model) => this.#readGauges(model)));
    // An engine may have died while it was asked.
    for (const { id, state } of models.served) this.#engineUp.set({ model: id }, state === "ready" ? 1 : 0);
    this.#readLoopDelay();
    return this.#registry.metrics();
  }

  async #readGauges(model: LoadedModel): Promise<void> {
    const stats = await statsWithin(model, STATS_WAIT_MS);
    const last = this.#lastSteps.get(model.id);
    const running = stats?.running ?? last?.running ?? 0;
    const waiting = stats?.queued ?? last?.queued ?? 0;
    const used = stats?.slots.reduce((sum, slot) => sum + slot.tokens, 0) ?? last?.usedCells ?? 0;
    const { slots, contextTokens } = model.facts;
    const usage = used / Math.max(1, slots * contextTokens);
    this.#running.set({ model: model.id }, running);
    this.#waiting.set({ model: model.id }, waiting);
    this.#kvUsage.set({ model: model.id }, usage);
    for (const state of stats === undefined ? [] : SLOT_STATES) {
      const count = stats?.slots.filter((slot) => slot.state === state).length ?? 0;
      this.#slots.set({ model: model.id, state }, count);
    }
    if (stats !== undefined) this.#service.setGauges(model.id, stats);
    if (stats?.byClass !== undefined) this.#classes.setGauges(model.id, stats.byClass);
    if (stats !== undefined) this.#cells.setGauges(model.id, stats);
    if (stats !== undefined) this.#offload.setGauges(model.id, stats);
    if (stats?.spill !== undefined) this.#spill.setGauges(model.id, stats.spill, stats.pins);
    if (stats?.checkpoints !== undefined) this.#checkpoints.setGauges(model.id, stats.checkpoints);
    this.#vllm.setGauges(model, { running, waiting, usage });
    this.#llama.addLoad(running, waiting, Math.max(0, ...(stats?.slots.map(({ tokens }) => tokens) ?? [])));
  }

  #readLoopDelay(): void {
    const delay = this.#loopDelay;
    const sampleSeconds = LOOP_SAMPLE_MS * SECONDS_PER_MS;
    const seconds = (ns: number): number =>
      Number.isFinite(ns) ? Math.max(0, ns * SECONDS_PER_NS - sampleSeconds) : 0;
    this.#loopSeconds.set({ quantile: "0.5" }, seconds(delay.percentile(50)));
    this.#loopSeconds.set({ quantile: "0.99" }, seconds(delay.percentile(99)));
    this.#loopSeconds.set({ quantile: "1" }, seconds(delay.max));
    delay.reset();
  }

  #gauge<L extends string>(name: string, help: string, labelNames: readonly L[]): Gauge<L> {
    return new Gauge({ name, help, labelNames, registers: [this.#registry] });
  }

  #counter<L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> {
    return new Counter({ name, help, labelNames, registers: [this.#registry] });
  }

  #histogram(
    name: string,
    help: string,
    buckets: readonly number[],
    labelNames: readonly string[] = MODEL,
  ): Histogram {
    return new Histogram({ name, help, labelNames, buckets: [...buckets], registers: [this.#registry] });
  }
}

/** Undefined when the engine has not answered in time, or is gone. */
export async function statsWithin(model: LoadedModel, waitMs: number): Promise<EngineStats | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), waitMs);
  });
  try {
    return await Promise.race([model.engine.stats().catch(() => undefined), late]);
  } finally {
    clearTimeout(timer);
  }
}
