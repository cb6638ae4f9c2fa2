/** An engine that does what a test tells it, one event at a time, and remembers what it was asked. */
import type { EngineStats } from "../../engine/engine-stats.ts";
import type {
  EarlyPhase,
  EmbedCommand,
  EngineCommand,
  EngineEvent,
  EngineExit,
  EnginePort,
  PromptLogprobs,
  PromptPart,
  RankCommand,
  StepOutput,
  SubmitCommand,
  TokenId,
  TokenLogprobs,
} from "../../engine/protocol.ts";
import type { StepReport } from "../../engine/step-report.ts";
import type { EngineErrorCode } from "../../engine/errors.ts";
import type { Timeline } from "../../engine/timeline.ts";
import type { Allowance } from "../../engine/sharing.ts";
import { idsOf } from "./tiny-vocabulary.ts";

/** What the engine does with a request by itself; `hold` leaves everything to the test. */
export type Script =
  | { readonly kind: "answer"; readonly steps: readonly ScriptedStep[] }
  | {
      readonly kind: "fail";
      readonly code: EngineErrorCode;
      readonly details?: Readonly<Record<string, number>>;
    }
  | { readonly kind: "accept" }
  | { readonly kind: "hold" };

export interface ScriptedStep {
  readonly tokens: readonly TokenId[];
  readonly logprobs?: readonly TokenLogprobs[];
  readonly finish?: StepOutput["finish"];
  /** With the first step. */
  readonly promptLogprobs?: PromptLogprobs;
}

const IDLE_REPORT: StepReport = {
  planMs: 0,
  decodeMs: 1,
  sampleMs: 0,
  prefillMs: 0,
  decodeSequences: 1,
  prefillTokens: 0,
  passes: 1,
  running: 1,
  queued: 0,
  usedCells: 1,
};

const STATS: EngineStats = {
  slots: [
    {
      id: 0,
      state: "decode",
      tokens: 5,
      requestId: "r",
      owner: "anonymous",
      promptTokens: 4,
      cachedTokens: 0,
      outputTokens: 1,
    },
  ],
  queued: 3,
  running: 1,
  contextTokens: 256,
  steps: 1,
  passes: 1,
  promptTokens: 4,
  reusedTokens: 0,
  outputTokens: 1,
  queuedTokens: 12,
  serviceGap: 7.5,
  spill: { prefixes: 2, tokens: 30, bytes: 900, returnChance: 0.2, limitBytes: 1000 },
};

export class ScriptedEngine implements EnginePort {
  readonly commands: EngineCommand[] = [];
  readonly exited: Promise<EngineExit>;
  script: Script = { kind: "hold" };
  /** Told with each acceptance. */
  allowance: Allowance | undefined;
  /** Answers an `embed` or a `rank`; undefined leaves them unanswered. */
  vectorOf: ((tokens: readonly TokenId[]) => Float32Array) | undefined;
  scoreOf: ((query: readonly TokenId[], document: readonly TokenId[]) => number) | undefined;
  /** Answers a `timeline`; undefined leaves it unanswered. */
  timeline: Timeline | undefined;
  /** Added to the answers to `stats`. */
  statsToo: Partial<EngineStats> = {};
  #exit: (exit: EngineExit) => void = () => {};
  #receive: (event: EngineEvent) => void = () => {};
  #watchers: (() => void)[] = [];

  constructor() {
    this.exited = new Promise((resolve) => (this.#exit = resolve));
  }

  get submits(): SubmitCommand[] {
    return this.commands.filter((command) => command.type === "submit");
  }

  get cancels(): string[] {
    return this.commands.flatMap((command) => (command.type === "cancel" ? [command.id] : []));
  }

  onEvent(receiver: (event: EngineEvent) => void): void {
    this.#receive = receiver;
  }

  kill(): void {
    this.die();
  }

  die(): void {
    this.#exit({ unexpected: true, detail: "killed by the test" });
  }

  send(command: EngineCommand): void {
    this.commands.push(command);
    if (command.type === "submit") queueMicrotask(() => this.#play(command));
    if (command.type === "embed") this.#embed(command);
    if (command.type === "rank") this.#rank(command);
    if (command.type === "stats")
      this.#answer({ type: "stats", call: command.call, stats: { ...STATS, ...this.statsToo } });
    if (command.type === "timeline" && this.timeline !== undefined)
      this.#answer({ type: "timeline", call: command.call, timeline: this.timeline });
    if (command.type === "tokenize") {
      const bos = command.addBos ? [0] : [];
      const tokens = command.texts.map((parts) => [...bos, ...tokensOf(parts)]);
      this.#answer({ type: "tokenized", call: command.call, tokens });
    }
    for (const watcher of this.#watchers.splice(0)) watcher();
  }

  /** Resolves when the condition holds; looked at after each command. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#watchers.push(resolve));
  }

  accept({ id, prompt }: SubmitCommand): void {
    const allowance = this.allowance === undefined ? {} : { allowance: this.allowance };
    this.#receive({ type: "accepted", id, promptTokens: tokensOf(prompt), queuePosition: 0, ...allowance });
  }

  /** The request, which has no token yet, has got a slot or lost it. */
  move({ id }: SubmitCommand, to: EarlyPhase): void {
    const report = { ...IDLE_REPORT, passes: 0, decodeSequences: 0, decodeMs: 0 };
    this.#receive({ type: "step", outputs: [], moves: [{ id, to }], report });
  }

  /** @param first Whether these are the request's first tokens. */
  step({ id, prompt }: SubmitCommand, step: ScriptedStep, first: boolean): void {
    // No more than there is.
    const cachedTokens = Math.min(1, tokensOf(prompt).length);
    const start = first
      ? { slot: 0, cachedTokens, queueMs: 0, prefillMs: 10, promptLogprobs: step.promptLogprobs }
      : undefined;
    const { tokens, logprobs, finish } = step;
    this.#receive({ type: "step", outputs: [{ id, tokens, logprobs, start, finish }], report: IDLE_REPORT });
  }

  /** Tells how far a prompt is. */
  reportPrefill({ id }: SubmitCommand, computedTokens: number, ms: number): void {
    const prefill = { cachedTokens: 1, computedTokens, ms };
    const output = { id, tokens: [], logprobs: undefined, start: undefined, finish: undefined, prefill };
    this.#receive({ type: "step", outputs: [output], report: IDLE_REPORT });
  }

  fail({ id }: SubmitCommand, code: EngineErrorCode, details?: Readonly<Record<string, number>>): void {
    this.#receive({ type: "failed", id, code, message: `secret of ${code}`, details });
  }

  #play(command: SubmitCommand): void {
    const { script } = this;
    if (script.kind === "hold") return;
    if (script.kind === "fail") return this.fail(command, script.code, script.details);
    this.accept(command);
    if (script.kind === "accept") return;
    for (const [i, step] of script.steps.entries()) this.step(command, step, i === 0);
  }

  #embed({ call, inputs, keep = -1 }: EmbedCommand): void {
    const { vectorOf } = this;
    if (vectorOf === undefined) return;
    // Whatever fits.
    const tokens = inputs.map(tokensOf).map((ids) => (keep === -1 ? ids : ids.slice(-keep)));
    this.#answer({
      type: "embedded",
      call,
      vectors: tokens.map(vectorOf),
      tokenCounts: tokens.map(({ length }) => length),
      work: { calls: tokens.length, ms: 10 },
      ...(this.allowance === undefined ? {} : { allowance: this.allowance }),
    });
  }

  #rank({ call, query, documents }: RankCommand): void {
    const { scoreOf } = this;
    if (scoreOf === undefined) return;
    const asked = tokensOf(query);
    const tokens = documents.map(tokensOf);
    this.#answer({
      type: "ranked",
      call,
      scores: tokens.map((document) => scoreOf(asked, document)),
      tokenCounts: tokens.map(({ length }) => asked.length + length),
      work: { calls: tokens.length, ms: 10 },
      ...(this.allowance === undefined ? {} : { allowance: this.allowance }),
    });
  }

  failCall(call: number, code: EngineErrorCode, details?: Readonly<Record<string, number>>): void {
    this.#receive({ type: "call_failed", call, code, message: `secret of ${code}`, details });
  }

  #answer(event: EngineEvent): void {
    queueMicrotask(() => this.#receive(event));
  }
}

function tokensOf(parts: readonly PromptPart[]): TokenId[] {
  return parts.flatMap((part) => ("text" in part ? idsOf(part.text) : part.tokens));
}

/** A step for each token of the text, the last with the end token. */
export function sayThenStop(text: string, endToken: TokenId): Script {
  const steps = idsOf(text).map((token) => ({ tokens: [token] }));
  return {
    kind: "answer",
    steps: [...steps, { tokens: [endToken], finish: { reason: "stop", stopToken: endToken } }],
  };
}
