/** Keeps one engine process per model running: loads it, starts it again when it dies, ends it in time. */
import { EngineClient } from "../engine/client.ts";
import { EngineError } from "../engine/errors.ts";
import type { EnginePort, LoadOptions, ModelFacts, StepReport } from "../engine/protocol.ts";
import { DEFAULT_SAMPLING } from "../models/catalogue.ts";
import type { ChatTemplate } from "../models/chat-template.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import type { ResolvedModel } from "../models/resolve.ts";
import { TokenTable } from "../models/text/token-table.ts";
import type { Log } from "./deps.ts";
import type { ModelDirectory, ServedModel, ServedModelState } from "./model-directory.ts";

/** Wait before the first restart; it doubles with each death in a row. */
const FIRST_BACKOFF_MS = 250;
const MAX_BACKOFF_MS = 10_000;
/** An engine that dies more often than this within the window will not get better by itself. */
const MAX_DEATHS = 5;
const DEATH_WINDOW_MS = 60_000;
/** After `stop` an engine finishes its native call and frees its memory; a large model's takes seconds. */
const STOP_MS = 5000;

export interface ModelHostDeps {
  startEngine(model: ResolvedModel): EnginePort;
  loadOptions(model: ResolvedModel): LoadOptions;
  /** Undefined when the model has no chat template. */
  createTemplate(model: ResolvedModel, facts: ModelFacts, tokens: TokenTable): ChatTemplate | undefined;
  onStep(modelId: string, report: StepReport): void;
  readonly log: Log;
  /** Monotonic, in ms. */
  nowMs(): number;
  /** Resolves after so many ms. */
  wait(ms: number): Promise<void>;
}

export class ModelHost implements ModelDirectory {
  readonly served: readonly HostedModel[];

  /** The first model is the default. Nothing runs before `start`. */
  constructor(models: readonly ResolvedModel[], deps: ModelHostDeps) {
    this.served = models.map((model) => new HostedModel(model, deps));
  }

  find(name: string): ServedModel | undefined {
    return (
      this.served.find(({ id }) => id === name) ?? this.served.find(({ aliases }) => aliases.includes(name))
    );
  }

  /**
   * Loads the models one after the other, so that each sees the memory the ones before it left.
   * @throws {EngineError} What keeps the first unloadable one from loading.
   */
  async start(): Promise<void> {
    for (const model of this.served) await model.start();
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

class HostedModel implements ServedModel {
  readonly id: string;
  readonly aliases: readonly string[];
  readonly createdSeconds: number;
  readonly #model: ResolvedModel;
  readonly #deps: ModelHostDeps;
  #state: ServedModelState = "loading";
  #loaded: LoadedModel | undefined;
  #detail: string | undefined = "The model is being loaded.";
  #client: EngineClient | undefined;
  #restarts = 0;
  /** Times of the deaths within the window; never longer than MAX_DEATHS + 1. */
  #deathsMs: number[] = [];
  #stopping = false;

  constructor(model: ResolvedModel, deps: ModelHostDeps) {
    this.id = model.id;
    this.aliases = model.aliases;
    this.createdSeconds = model.createdSeconds;
    this.#model = model;
    this.#deps = deps;
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
    try {
      await this.#launch();
    } catch (cause) {
      this.#fail(cause instanceof Error ? cause.message : String(cause));
      throw cause;
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const client = this.#client;
    if (client === undefined) return;
    const timer = setTimeout(() => client.kill(), STOP_MS);
    await client.stop();
    clearTimeout(timer);
  }

  kill(): void {
    this.#stopping = true;
    this.#client?.kill();
  }

  async #launch(): Promise<void> {
    if (this.#stopping) throw new EngineError("draining", "The server is shutting down.");
    const { id } = this;
    const client = new EngineClient(this.#deps.startEngine(this.#model), {
      onStep: (report) => this.#deps.onStep(id, report),
    });
    this.#client = client;
    try {
      const facts = await client.load(this.#deps.loadOptions(this.#model));
      const tokens = new TokenTable(facts);
      const template = this.#deps.createTemplate(this.#model, facts, tokens);
      const sampling = this.#model.overrides?.sampling ?? DEFAULT_SAMPLING;
      this.#loaded = { id, facts, engine: client, tokens, template, sampling };
      this.#state = "ready";
      this.#detail = undefined;
    } catch (cause) {
      // One that cannot load holds memory and nothing else.
      client.kill();
      throw cause;
    }
    void this.#watch(client);
  }

  async #watch(client: EngineClient): Promise<void> {
    const { unexpected, detail } = await client.exited;
    this.#loaded = undefined;
    if (unexpected && !this.#stopping) await this.#revive(detail);
  }

  /** Starts the engine again after a death, until it is up or hope is lost. Never rejects. */
  async #revive(death: string): Promise<void> {
    const { log } = this.#deps;
    let detail = death;
    while (!this.#stopping) {
      const deaths = this.#countDeath();
      if (deaths > MAX_DEATHS) {
        this.#fail(`The engine died ${deaths} times within a minute, last by: ${detail}`);
        log.error({ model: this.id, deaths }, `engine given up: ${detail}`);
        return;
      }
      this.#state = "restarting";
      this.#detail = `The engine ended by ${detail} and is being started again.`;
      const backoffMs = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** (deaths - 1));
      log.error({ model: this.id, deaths, backoffMs }, `engine died: ${detail}`);
      await this.#deps.wait(backoffMs);
      this.#restarts += 1;
      try {
        await this.#launch();
        log.info({ model: this.id, restarts: this.#restarts }, "engine is back");
        return;
      } catch (cause) {
        detail = cause instanceof Error ? cause.message : String(cause);
      }
    }
  }

  #countDeath(): number {
    const nowMs = this.#deps.nowMs();
    this.#deathsMs = this.#deathsMs.filter((ms) => nowMs - ms < DEATH_WINDOW_MS);
    this.#deathsMs.push(nowMs);
    return this.#deathsMs.length;
  }

  #fail(detail: string): void {
    this.#loaded = undefined;
    this.#state = "failed";
    this.#detail = detail;
  }
}
