/** The choices of one answer as one stream: submitted together, told apart by index, ended together. */
import type { PromptLogprobs, TokenId } from "../engine/protocol.ts";
import type { Allowance } from "../engine/sharing.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import { Backlog } from "./backlog.ts";
import { clientClosed } from "./client-words.ts";
import { generate } from "./generate.ts";
import type { GenerateRequest } from "./generate-request.ts";
import type { GenerateDeps, Generation } from "./generate.ts";
import { settleRequests } from "./settle-request.ts";
import { servedOf } from "./generation-events.ts";
import type {
  FinishEvent,
  GenerationEvent,
  GenerationTimings,
  GenerationUsage,
  Served,
} from "./generation-events.ts";

const UINT32 = 2 ** 32;

export interface ChoicesRequest {
  /** At least one; all with the id of the one answer they belong to. */
  readonly prompts: readonly GenerateRequest[];
  /** Choices of each prompt, at least 1. */
  readonly perPrompt: number;
  /** The field that asks for so many choices in all. */
  readonly askedBy: string;
}

export interface ChoiceEvent {
  /** Which choice; a prompt's choices follow each other. */
  readonly index: number;
  readonly event: GenerationEvent;
  /** Of the whole answer so far. */
  readonly usage: GenerationUsage;
  /** Whether the answer ends with this event. */
  readonly last: boolean;
}

/** One choice with everything it brought. */
export interface FinishedChoice {
  readonly index: number;
  /** The last one is the finish. */
  readonly events: readonly GenerationEvent[];
  readonly finish: FinishEvent;
}

/** An answer that has ended. */
export interface FinishedAnswer {
  readonly choices: readonly FinishedChoice[];
  /** Per prompt, as `GenerationEvent.promptLogprobs`. */
  readonly promptLogprobs: readonly (PromptLogprobs | undefined)[];
  readonly usage: GenerationUsage;
  /** Of the slowest choice. */
  readonly timings: GenerationTimings;
}

/**
 * Submits `perPrompt` choices of each prompt, in order and without a pause, so that the engine can compute equal
 * prompts once. Choice 0 of a prompt is what it is alone; choice k draws with the seed plus k.
 *
 * @throws {ApiError} What any choice is refused with; the others are cancelled.
 */
export async function generateChoices(
  model: LoadedModel,
  { prompts, perPrompt, askedBy }: ChoicesRequest,
  deps: GenerateDeps,
  signal: AbortSignal,
): Promise<Choices> {
  const settled = await settleRequests(model, prompts, deps, signal);
  const of = prompts.length * perPrompt;
  const requests = settled.flatMap((prompt, i) =>
    Array.from({ length: perPrompt }, (_, k) => {
      const request = choiceRequest(prompt, i * perPrompt + k, k);
      return of === 1 ? request : { ...request, choice: { of, repeatsPrompt: k > 0, askedBy } };
    }),
  );
  const outcomes = await Promise.allSettled(
    requests.map((request) => generate(model, request, deps, signal)),
  );
  const generations = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
  const refused = outcomes.find((outcome) => outcome.status === "rejected");
  if (refused !== undefined) {
    for (const generation of generations) generation.cancel();
    throw refused.reason;
  }
  return new Choices(generations, perPrompt, deps.config.limits["max-unsent-events"]);
}

function choiceRequest(prompt: GenerateRequest, index: number, seedOffset: number): GenerateRequest {
  if (index === 0) return prompt;
  const { settings } = prompt;
  const seed = (settings.sampling.seed + seedOffset) % UINT32;
  return {
    ...prompt,
    id: `${prompt.id}-${index}`,
    answerId: prompt.id,
    // They are the same for every choice of a prompt, whose first choice comes first.
    promptLogprobs: seedOffset === 0 ? prompt.promptLogprobs : undefined,
    reportsPrefill: seedOffset === 0 && prompt.reportsPrefill === true,
    settings: { ...settings, sampling: { ...settings.sampling, seed } },
  };
}

/**
 * The events of every choice in the order in which they come, except that a choice's first event waits for the
 * first events of the choices before it: some clients count choices instead of reading their index.
 *
 * Iterate once. Ends without a `last` event when the client has gone; throws when the engine fails a choice, and
 * cancels the others then and when the consumer leaves early. A choice of which too much waits here is paused.
 */
export class Choices implements AsyncIterable<ChoiceEvent> {
  readonly #generations: readonly Generation[];
  readonly #perPrompt: number;
  /** Per choice, what has been passed on so far. */
  readonly #usages: GenerationUsage[];
  /** Per choice, what was passed on last. */
  readonly #last: GenerationEvent[] = [];
  /** Per choice, events that wait for the choices before it. */
  readonly #held: GenerationEvent[][];
  /** How many choices have sent their first event. */
  #started = 0;
  #ready: (readonly [index: number, event: GenerationEvent])[] = [];
  /** Per choice, what waits for the consumer. */
  readonly #backlogs: readonly Backlog[];
  #open: number;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  /** @param mostUnsent Events of a choice that may wait for the consumer. */
  constructor(generations: readonly Generation[], perPrompt: number, mostUnsent: number) {
    this.#generations = generations;
    this.#perPrompt = perPrompt;
    this.#open = generations.length;
    this.#held = generations.map(() => []);
    this.#backlogs = generations.map(
      (generation) => new Backlog(mostUnsent, (full) => generation.setPaused(full)),
    );
    this.#usages = generations.map(({ promptTokens }) => ({
      promptTokens: promptTokens.length,
      cachedTokens: 0,
      completionTokens: 0,
      reasoningTokens: 0,
      guessesRight: 0,
      guessesWrong: 0,
      predictionsRight: 0,
      predictionsWrong: 0,
    }));
    // At once, so that the order is that of the engine however slowly the client reads.
    for (const [index, generation] of generations.entries()) this.#follow(index, generation);
  }

  /** The tokens of each prompt. */
  get promptTokens(): readonly (readonly TokenId[])[] {
    return this.#generations
      .filter((_, index) => index % this.#perPrompt === 0)
      .map((generation) => generation.promptTokens);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ChoiceEvent, void, void> {
    let unfinished = this.#generations.length;
    try {
      for (;;) {
        const ready = this.#ready;
        this.#ready = [];
        for (const [index, event] of ready) {
          this.#usages[index] = event.usage;
          this.#last[index] = event;
          this.#backlogs[index]?.take();
          if (event.kind === "finish") unfinished--;
          yield { index, event, usage: this.#usage(), last: unfinished === 0 };
        }
        if (this.#ready.length > 0) continue;
        if (this.#error !== undefined) throw this.#error;
        if (this.#open === 0) return;
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      for (const generation of this.#generations) generation.cancel();
    }
  }

  /** What is left to whoever asked. */
  get allowance(): Allowance | undefined {
    return this.#generations.at(-1)?.allowance;
  }

  get served(): Served {
    return servedOf(Object.values(this.#last), this.#usage().cachedTokens);
  }

  /** Reads to the end. @throws {ApiError} `client_closed` when the client has gone, or what a choice failed with. */
  async finished(): Promise<FinishedAnswer> {
    const events: GenerationEvent[][] = this.#generations.map(() => []);
    for await (const { index, event } of this) events[index]?.push(event);
    const choices = events.map((ofChoice, index): FinishedChoice => {
      const finish = ofChoice.at(-1);
      if (finish?.kind !== "finish") throw clientClosed();
      return { index, events: ofChoice, finish };
    });
    return {
      choices,
      promptLogprobs: choices
        .filter(({ index }) => index % this.#perPrompt === 0)
        .map(({ events: [first] }) => first?.promptLogprobs),
      usage: this.#usage(),
      timings: slowest(choices.map(({ finish }) => finish.timings)),
    };
  }

  #follow(index: number, generation: Generation): void {
    generation.listen({
      onEvent: (event) => {
        this.#take(index, event);
        this.#notify();
      },
      onEnd: (error) => {
        this.#error ??= error;
        this.#open--;
        this.#notify();
      },
    });
  }

  #take(index: number, event: GenerationEvent): void {
    this.#backlogs[index]?.add();
    if (index > this.#started) {
      this.#held[index]?.push(event);
      return;
    }
    this.#ready.push([index, event]);
    // How far a prompt is begins no choice.
    if (index < this.#started || event.kind === "prefill") return;
    for (let begun = true; begun;) {
      this.#started++;
      const held = this.#held[this.#started] ?? [];
      for (const later of held) this.#ready.push([this.#started, later]);
      this.#held[this.#started] = [];
      begun = held.some(({ kind }) => kind !== "prefill");
    }
  }

  /** A prompt counts once however many choices it has, with what its first choice found computed. */
  #usage(): GenerationUsage {
    const [first] = this.#usages;
    if (first !== undefined && this.#usages.length === 1) return first;
    let [promptTokens, cachedTokens, completionTokens, reasoningTokens] = [0, 0, 0, 0];
    let [guessesRight, guessesWrong, predictionsRight, predictionsWrong] = [0, 0, 0, 0];
    for (const [index, usage] of this.#usages.entries()) {
      if (index % this.#perPrompt === 0) {
        promptTokens += usage.promptTokens;
        cachedTokens += usage.cachedTokens;
      }
      completionTokens += usage.completionTokens;
      reasoningTokens += usage.reasoningTokens;
      guessesRight += usage.guessesRight;
      guessesWrong += usage.guessesWrong;
      predictionsRight += usage.predictionsRight;
      predictionsWrong += usage.predictionsWrong;
    }
    return {
      promptTokens,
      cachedTokens,
      completionTokens,
      reasoningTokens,
      guessesRight,
      guessesWrong,
      predictionsRight,
      predictionsWrong,
    };
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

function slowest(timings: readonly GenerationTimings[]): GenerationTimings {
  return {
    prefillMs: Math.max(...timings.map(({ prefillMs }) => prefillMs)),
    decodeMs: Math.max(...timings.map(({ decodeMs }) => decodeMs)),
  };
}
