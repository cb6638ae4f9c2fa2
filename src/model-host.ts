/**
 * Keeps one engine process per model running: loads it, starts it again when it dies or is asked to, ends it in time.
 *
 * What its requests have asked and got meanwhile is the supervisor's.
 */
import { basename } from "node:path";
import { EngineClient } from "../engine/client.ts";
import { EngineError } from "../engine/errors.ts";
import type { EngineExit, EnginePort, LoadOptions, ModelFacts, PinPrompt } from "../engine/protocol.ts";
import type { StepReport } from "../engine/step-report.ts";
import { DEFAULT_SAMPLING } from "../models/catalogue.ts";
import type { ChatTemplate } from "../models/chat-template.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import type { ResolvedModel } from "../models/resolve.ts";
import { TokenTable } from "../models/text/token-table.ts";
import { AdaptedModel } from "./adapted-models.ts";
import type { Log } from "./deps.ts";
import type { ModelDirectory, ServedModel, ServedModelState } from "./model-directory.ts";
import { Supervisor } from "./supervisor.ts";
import type { Death } from "./suspicion.ts";

/** Wait before the second restart in a row, since the first one waits for nothing; it doubles from there. */
const FIRST_BACKOFF_MS = 250;
const MAX_BACKOFF_MS = 10_000;
/** An engine that crashes more often than this in a row, and does nothing in between, will not get better. */
const MAX_CRASHES = 5;
/** A kill from outside says less about the engine than a crash: so many of them count as one. */
const KILLS_PER_CRASH = 4;
/** An engine that was up for so long has not failed to start. */
const LONG_LIFE_MS = 60_000;
/** How often silent engines are looked at. */
const TICK_MS = 1000;
/** After `stop` an engine finishes its native call and frees its memory; a large model's takes seconds. */
const STOP_MS = 5000;

/** What goes wrong with engines, for metrics. */
export type EngineTrouble =
  | { readonly kind: "death"; readonly model: string; readonly death: Death }
  | { readonly kind: "replay"; readonly model: string; readonly requests: number }
  | { readonly kind: "conviction" | "stuck" | "garbled"; readonly model: string };

export interface ModelHostDeps {
  startEngine(model: ResolvedModel): EnginePort;
  loadOptions(model: ResolvedModel): LoadOptions;
  /** @throws {Error} When its files cannot be loaded as they are by now. */
  checkFiles(model: ResolvedModel): void;
  /** Undefined when the model has no chat template. */
  createTemplate(model: ResolvedModel, facts: ModelFacts, tokens: TokenTable): ChatTemplate | undefined;
  /** What is pinned of the model; absent is nothing. @throws {Error} What keeps a prompt from being made. */
  pinnedPrompts?(loaded: LoadedModel): Promise<readonly PinPrompt[]>;
  /** Hears of a model that is loaded for the first time, or again after it was given up: 0 as it begins, 1 when its file is read. */
  onLoading?(modelId: string, ratio: number): void;
  onStep(modelId: string, report: StepReport): void;
  onTrouble(trouble: EngineTrouble): void;
  /** Silence of a busy engine that is never taken for its end, in ms. */
  readonly stuckAfterMs: number;
  readonly log: Log;
  /** Monotonic, in ms. */
  nowMs(): number;
  /** Resolves after so many ms. */
  wait(ms: number): Promise<void>;
}

export class ModelHost implements ModelDirectory {
  readonly served: readonly HostedModel[];
  readonly #byName = new Map<string, ServedModel>();
  /** Resolves when every model that was given up and asked for again has been tried. */
  #loadedAnew: Promise<void> = Promise.resolve();

  /** The first model is the default. Nothing runs before `start`. */
  constructor(models: readonly ResolvedModel[], deps: ModelHostDeps) {
    this.served = models.map((model) => new HostedModel(model, deps));
    const all: ServedModel[] = this.served.flatMap((model) => [model, ...model.adapted]);
    // Ids go before aliases, and who comes first before who comes later.
    const names = [...all.map(({ id }) => [id]), ...all.map(({ aliases }) => aliases)];
    for (const [i, own] of names.entries()) {
      const model = all[i % all.length];
      for (const name of own)
        if (model !== undefined && !this.#byName.has(name)) this.#byName.set(name, model);
    }
  }

  find(name: string): ServedModel | undefined {
    return this.#byName.get(name);
  }

  /**
   * Loads the models one after the other, so that each sees the memory the ones before it left.
   * @throws {EngineError} What keeps the first unloadable one from loading.
   */
  async start(): Promise<void> {
    for (const model of this.served) await model.start();
  }

  /** Starts every engine again with the requests it has; no request fails by it. Those given up load as in `start`. */
  restart(): void {
    for (const model of this.served) this.#loadedAnew = model.restart(this.#loadedAnew);
  }

  /** Ends every engine; one that does not answer in time is killed. */
  async stop(): Promise<void> {
    await Promise.all(this.served.map((model) => model.stop()));
  }

  /** Kills every engine at once. */
  kill(): void {
    for (const model of this.served) model.kill();
  }
}

/** Who kills an engine and does not say so is mostly the system, for its memory. */
const KILLED_ADVICE =
  "; if nobody has done that, the system ran out of memory: fewer --slots, a smaller --context or --kv-type q8_0 need less";

/** The end of an engine that was loading. */
class EngineDied extends EngineError {
  readonly exit: EngineExit;

  constructor(exit: EngineExit) {
    super("engine_exited", `The engine has ended: ${exit.detail}.`);
    this.exit = exit;
  }
}

class HostedModel implements ServedModel {
  readonly id: string;
  readonly aliases: readonly string[];
  readonly createdSeconds: number;
  readonly parent = undefined;
  readonly adapted: readonly AdaptedModel[];
  readonly #model: ResolvedModel;
  readonly #deps: ModelHostDeps;
  /** With its client one for as long as engines follow each other; both are new after the model was given up. */
  #supervisor: Supervisor;
  #client: EngineClient;
  #state: ServedModelState = "loading";
  #loaded: LoadedModel | undefined;
  #detail: string | undefined = "The model is being loaded.";
  /** The engine that runs or loads. */
  #port: EnginePort | undefined;
  #readyMs = 0;
  #restarts = 0;
  /** Deaths in a row of engines that did nothing, in crashes. */
  #crashes = 0;
  #planned = false;
  #stopping = false;
  #ticking: NodeJS.Timeout | undefined;

  constructor(model: ResolvedModel, deps: ModelHostDeps) {
    const { id } = model;
    this.id = id;
    this.aliases = model.aliases;
    this.createdSeconds = model.createdSeconds;
    this.adapted = (model.adapters ?? []).map((adapter, i) => new AdaptedModel(this, adapter, i));
    this.#model = model;
    this.#deps = deps;
    this.#supervisor = this.#newSupervisor();
    this.#client = this.#newClient();
  }

  #newSupervisor(): Supervisor {
    const deps = this.#deps;
    const model = this.id;
    return new Supervisor(deps.stuckAfterMs, {
      onReplay: (requests) => {
        deps.onTrouble({ kind: "replay", model, requests });
        deps.log.info({ model, requests }, "requests go on where they were");
      },
      onConviction: (request) => {
        deps.onTrouble({ kind: "conviction", model });
        deps.log.error({ model, request }, "the engine died of this request again and again; it fails");
      },
      onStuck: (silenceMs) => {
        deps.onTrouble({ kind: "stuck", model });
        deps.log.error({ model, silenceMs }, "the engine is silent; it is killed");
      },
      onGarbled: () => {
        deps.onTrouble({ kind: "garbled", model });
        deps.log.error({ model }, "the engine says what no engine says; it is killed");
      },
    });
  }

  #newClient(): EngineClient {
    return new EngineClient(this.#supervisor, {
      onLoadProgress: (ratio) => this.#deps.onLoading?.(this.id, ratio),
      onStep: (report) => this.#observe(report),
    });
  }

  /** A step that cannot be counted is still a step: its tokens must reach their clients. */
  #observe(report: StepReport): void {
    try {
      this.#deps.onStep(this.id, report);
    } catch (err) {
      this.#deps.log.error({ model: this.id, err }, "a step could not be counted");
    }
  }

  get state(): ServedModelState {
    return this.#state;
  }

  get loaded(): LoadedModel | undefined {
    return this.#loaded;
  }

  get detail(): string | undefined {
    return this.#detail;
  }

  /** Times the engine was started again. */
  get restarts(): number {
    return this.#restarts;
  }

  /** @throws {EngineError} Why it does not load; the state is `failed` then. */
  async start(): Promise<void> {
    this.#deps.onLoading?.(this.id, 0);
    try {
      await this.#launch(() => this.#client.load(this.#deps.loadOptions(this.#model)));
    } catch (cause) {
      this.#giveUp(cause instanceof Error ? cause.message : String(cause));
      throw cause;
    }
  }

  /**
   * Starts the engine again with every request it has; one that is not up is being started anyway, unless its model was
   * given up. One whose files have been replaced by what cannot be loaded goes on as it is.
   *
   * @param turn When a model that was given up may load.
   * @returns When the next one may. Never rejects.
   */
  restart(turn: Promise<void>): Promise<void> {
    if (this.#stopping || (this.#state !== "ready" && this.#state !== "failed")) return turn;
    try {
      this.#deps.checkFiles(this.#model);
    } catch (err) {
      this.#deps.log.error({ model: this.id, err }, "the engine is not started again: its files are broken");
      return turn;
    }
    if (this.#state === "failed") return this.#startAnew(turn);
    this.#planned = true;
    this.#port?.kill();
    return turn;
  }

  /** Tries a model that was given up once more, as if nothing had been before. Never rejects. */
  async #startAnew(turn: Promise<void>): Promise<void> {
    const { log } = this.#deps;
    log.info({ model: this.id }, "a model that was given up is loaded again");
    this.#state = "loading";
    this.#detail = "The model is being loaded.";
    this.#crashes = 0;
    this.#restarts += 1;
    this.#supervisor = this.#newSupervisor();
    this.#client = this.#newClient();
    await turn;
    if (this.#stopping) return;
    try {
      await this.start();
      log.info({ model: this.id, restarts: this.#restarts }, "engine is back");
    } catch (err) {
      log.error({ model: this.id, err }, "engine given up again");
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const port = this.#port;
    if (port !== undefined) {
      const timer = setTimeout(() => port.kill(), STOP_MS);
      port.send({ type: "stop" });
      await port.exited;
      clearTimeout(timer);
    }
    this.#end("it was stopped");
  }

  kill(): void {
    this.#stopping = true;
    this.#port?.kill();
    this.#end("it was stopped");
  }

  /** Starts an engine and loads it. */
  async #launch(load: () => Promise<ModelFacts>): Promise<void> {
    if (this.#stopping) throw new EngineError("draining", "The server is shutting down.");
    const port = this.#deps.startEngine(this.#model);
    this.#port = port;
    this.#supervisor.connect(port);
    this.#ticking ??= setInterval(() => this.#supervisor.tick(TICK_MS), TICK_MS).unref();
    const died = port.exited.then((exit) => Promise.reject(new EngineDied(exit)));
    try {
      const facts = await Promise.race([load(), died]);
      // The files may have been replaced since.
      if (this.#loaded === undefined || fingerprints(this.#loaded.facts) !== fingerprints(facts)) {
        const loaded = this.#loadedOf(facts);
        const pinning = this.#pin(loaded);
        // Before the first request comes, but not before those that have come already.
        if (this.#loaded === undefined) await Promise.race([pinning, died]);
        else
          pinning.catch((err: unknown) =>
            this.#deps.log.error({ model: this.id, err }, "prompts are not pinned any more"),
          );
        this.#loaded = loaded;
      }
    } catch (cause) {
      // One that cannot load holds memory and nothing else.
      port.kill();
      this.#port = undefined;
      throw cause;
    }
    this.#state = "ready";
    this.#detail = undefined;
    this.#readyMs = this.#deps.nowMs();
    void this.#watch(port);
  }

  async #pin(loaded: LoadedModel): Promise<void> {
    const prompts = (await this.#deps.pinnedPrompts?.(loaded)) ?? [];
    if (prompts.length === 0) return;
    this.#deps.log.info({ model: this.id, prompts: prompts.length }, "prompts are computed to be pinned");
    const pins = await this.#client.pin(prompts);
    for (const { name, tokens, file } of pins)
      this.#deps.log.info(
        { model: this.id, pin: name, tokens: tokens.length, bytes: file?.bytes },
        "a prompt is pinned",
      );
  }

  #loadedOf(facts: ModelFacts): LoadedModel {
    const tokens = new TokenTable(facts);
    const template = this.#deps.createTemplate(this.#model, facts, tokens);
    const sampling = this.#model.overrides?.sampling ?? DEFAULT_SAMPLING;
    const { adapters = [] } = this.#model;
    const engine = this.#client;
    const fileName = basename(this.#model.path);
    const made = { id: this.id, fileName, facts, engine, tokens, template, sampling, adapters };
    return { ...made, applied: [] };
  }

  async #watch(port: EnginePort): Promise<void> {
    const exit = await port.exited;
    this.#port = undefined;
    if (!this.#stopping) await this.#revive(exit);
  }

  /** Starts the engine again after a death, until it is up or hope is lost. Never rejects. */
  async #revive(exit: EngineExit): Promise<void> {
    const lifeMs = this.#deps.nowMs() - this.#readyMs;
    let death: Death = this.#planned ? "planned" : deathOf(exit);
    let detail = this.#planned ? "a restart that was asked for" : exit.detail;
    this.#planned = false;
    const { fruitful, stuck, garbled } = this.#supervisor.lose(death);
    if (stuck) [death, detail] = ["crash", "being killed for its silence"];
    if (garbled) [death, detail] = ["crash", "being killed for what it said"];
    if (fruitful || death === "planned" || lifeMs >= LONG_LIFE_MS) this.#crashes = 0;
    while (!this.#stopping) {
      if (await this.#pauseAfter(death, detail)) return;
      if (this.#stopping) return;
      this.#restarts += 1;
      try {
        // Whoever asks for a restart may have asked because the measurement was bad; the clients of a dead engine wait.
        const measures = death === "planned";
        await this.#launch(() => this.#supervisor.reload(measures));
        this.#deps.log.info({ model: this.id, restarts: this.#restarts }, "engine is back");
        return;
      } catch (cause) {
        death = cause instanceof EngineDied ? deathOf(cause.exit) : "crash";
        detail = cause instanceof Error ? cause.message : String(cause);
        const life = this.#supervisor.lose(death);
        if (life.stuck || life.garbled) death = "crash";
      }
    }
  }

  /**
   * Says what has happened and waits until it is time to start again.
   * @returns Whether there is no hope.
   */
  async #pauseAfter(death: Death, detail: string): Promise<boolean> {
    const { log } = this.#deps;
    const model = this.id;
    const crashes = this.#crashes;
    if (death !== "planned") this.#crashes += death === "killed" ? 1 / KILLS_PER_CRASH : 1;
    if (this.#crashes > MAX_CRASHES) {
      this.#giveUp(`The engine died again and again and could not be kept running, last by: ${detail}`);
      log.error({ model }, `engine given up: ${detail}`);
      return true;
    }
    this.#state = "restarting";
    this.#detail = `The engine ended by ${detail} and is being started again.`;
    const backoffMs =
      crashes === 0 ? 0 : Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.floor(crashes - 0.5));
    this.#deps.onTrouble({ kind: "death", model, death });
    if (death === "planned") log.info({ model }, "engine is being started again");
    else log.error({ model, backoffMs }, `engine died: ${detail}${death === "killed" ? KILLED_ADVICE : ""}`);
    if (backoffMs > 0) await this.#deps.wait(backoffMs);
    return false;
  }

  #giveUp(detail: string): void {
    this.#loaded = undefined;
    this.#state = "failed";
    this.#detail = detail;
    this.#end(detail);
  }

  /** Whatever is open fails. */
  #end(detail: string): void {
    clearInterval(this.#ticking);
    this.#ticking = undefined;
    this.#loaded = undefined;
    this.#supervisor.end({ unexpected: !this.#stopping, detail });
  }
}

function fingerprints({ fingerprint, adapters = [] }: ModelFacts): string {
  return [fingerprint, ...adapters.map((adapter) => adapter.fingerprint)].join(" ");
}

function deathOf({ detail }: EngineExit): Death {
  // Nothing that an engine does to itself ends by this signal.
  return detail === "signal SIGKILL" ? "killed" : "crash";
}
