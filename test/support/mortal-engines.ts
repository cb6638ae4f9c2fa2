/** Engines that die when a test says so; and those over the fake model, one after the other under a supervisor. */
import type { BatchEntry } from "../../engine/backend.ts";
import { EngineClient } from "../../engine/client.ts";
import { createEngine } from "../../engine/engine.ts";
import { FakeBackend } from "../../engine/fake/backend.ts";
import type { FakeOptions } from "../../engine/fake/backend.ts";
import { hostEngine } from "../../engine/process/in-process.ts";
import type {
  EngineCommand,
  EngineEvent,
  EngineExit,
  EnginePort,
  GenerationParams,
  StepOutput,
  SubmitCommand,
} from "../../engine/protocol.ts";
import { Supervisor } from "../../src/supervisor.ts";
import { GREEDY, LOAD_OPTIONS } from "./engine.ts";

/** How an engine ended by itself, and from outside. */
export const CRASH = "signal SIGSEGV";
export const KILL = "signal SIGKILL";

export class MortalEngine implements EnginePort {
  readonly exited: Promise<EngineExit>;
  readonly commands: EngineCommand[] = [];
  #settle: (exit: EngineExit) => void = () => undefined;
  readonly #inner: EnginePort;

  constructor(inner: EnginePort) {
    this.#inner = inner;
    this.exited = new Promise((resolve) => (this.#settle = resolve));
    void this.#inner.exited.then((exit) => this.#settle(exit));
  }

  get submits(): SubmitCommand[] {
    return this.commands.filter((command) => command.type === "submit");
  }

  send(command: EngineCommand): void {
    this.commands.push(command);
    this.#inner.send(command);
  }

  onEvent(receiver: (event: EngineEvent) => void): void {
    this.#inner.onEvent(receiver);
  }

  kill(): void {
    this.die(KILL);
  }

  die(detail: string): void {
    this.#settle({ unexpected: true, detail });
    this.#inner.kill();
  }
}

export interface SupervisedOptions {
  /** Of every engine. */
  readonly sizes?: FakeOptions;
  /** Called before each call of any engine, but not while the first one loads. */
  readonly onRun?: (entries: readonly BatchEntry[], engines: MortalEngines) => Promise<void> | void;
  /** What every engine says passes through it. */
  readonly wrapEmit?: (emit: (event: EngineEvent) => void) => (event: EngineEvent) => void;
  readonly maxQueued?: number;
  readonly stuckAfterMs?: number;
}

export type MortalEngines = Awaited<ReturnType<typeof mortalEngines>>;

/** A supervisor whose engines are started again at once, without a host. */
export async function mortalEngines(options: SupervisedOptions = {}) {
  const engines: MortalEngine[] = [];
  const events: string[] = [];
  const supervisor = new Supervisor(options.stuckAfterMs ?? 30_000, {
    onReplay: (requests) => events.push(`replay ${requests}`),
    onConviction: (id) => events.push(`convict ${id}`),
    onStuck: () => events.push("stuck"),
    onGarbled: () => events.push("garbled"),
  });
  const client = new EngineClient(supervisor);
  let loaded = false;
  let stopping = false;
  const self = { engines, events, supervisor, client, current, submit, stop, hold: false, revive };
  function current(): MortalEngine {
    const engine = engines.at(-1);
    if (engine === undefined) throw new Error("No engine was started.");
    return engine;
  }
  function start(): void {
    const backend = new FakeBackend({
      slots: LOAD_OPTIONS.slots,
      ...options.sizes,
      onRun: (entries) => (loaded ? options.onRun?.(entries, self) : undefined),
    });
    const engine = new MortalEngine(
      hostEngine((emit) => createEngine(async () => backend, options.wrapEmit?.(emit) ?? emit)),
    );
    engines.push(engine);
    supervisor.connect(engine);
    void watch(engine);
  }
  async function watch({ exited }: MortalEngine): Promise<void> {
    const { detail } = await exited;
    if (stopping) return;
    supervisor.lose(detail === KILL ? "killed" : "crash");
    if (!self.hold) await revive();
  }
  async function revive(): Promise<void> {
    start();
    await supervisor.reload(false);
  }
  /** All that a request's client gets, to its end. */
  async function submit(
    id: string,
    prompt: readonly number[],
    params: Partial<GenerationParams> = {},
    signal?: AbortSignal,
  ): Promise<StepOutput[]> {
    const request = {
      id,
      prompt: [{ tokens: prompt }],
      addBos: true,
      owner: "tester",
      promptLogprobs: undefined,
    };
    const stream = await client.submit({ ...request, params: { ...GREEDY, ...params } }, signal);
    const outputs: StepOutput[] = [];
    for await (const output of stream) outputs.push(output);
    return outputs;
  }
  async function stop(): Promise<void> {
    stopping = true;
    current().kill();
    supervisor.end({ unexpected: false, detail: "stopped by the test" });
    await client.exited;
  }
  start();
  await client.load({ ...LOAD_OPTIONS, gpu: "auto", maxQueued: options.maxQueued ?? LOAD_OPTIONS.maxQueued });
  loaded = true;
  return self;
}
