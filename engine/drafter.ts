/**
 * Lets the draft model guess what a step's decode call then checks: greedily, for all slots that want it together.
 *
 * It can fail nobody: where it does not compute, nothing is guessed any more.
 */
import { performance } from "node:perf_hooks";
import { EngineError } from "./errors.ts";
import { learnDraftCost, noteFed, noteGuesses } from "./scheduler/draft-model.ts";
import { warn } from "./warn.ts";
import type { Backend, BatchEntry, LogitsHandle, Sampler } from "./backend.ts";
import type { Draws } from "./draws.ts";
import type { ModelFacts, TokenId } from "./protocol.ts";
import type {
  DraftFeed,
  DraftModel,
  PlannedCall,
  PlannedDrafting,
  PlannedEntry,
  SchedulerState,
} from "./scheduler/types.ts";

/** A call whose guesses have been made, or that has none. */
export interface Guessed {
  readonly call: PlannedCall;
  /** What making them took. */
  readonly ms: number;
}

export interface DrafterParts {
  readonly backend: Backend;
  /** A greedy one of the backend. */
  readonly sampler: Sampler;
  /** Of the model that it guesses for. */
  readonly target: Pick<ModelFacts, "endTokens" | "vocabSize">;
}

export class Drafter {
  readonly #backend: Backend;
  readonly #sampler: Sampler;
  /** They end a text, whatever a request says: nothing is guessed from there on. */
  readonly #endTokens: ReadonlySet<TokenId>;
  readonly #targetVocabulary: number;
  /** Of a call that failed draws may still be under way. */
  #drawing: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;
  /** Cells of each slot, those included that `DraftModel` has given up. */
  readonly #cells: number[];

  constructor({ backend, sampler, target }: DrafterParts) {
    this.#backend = backend;
    this.#sampler = sampler;
    this.#endTokens = new Set(target.endTokens);
    this.#targetVocabulary = target.vocabSize;
    this.#cells = Array.from({ length: backend.facts.slots }, () => 0);
  }

  /**
   * The call with the draft model's guesses in it. Never rejects.
   * @param onStart Called when the first native call is under way.
   */
  async guess(state: SchedulerState, call: PlannedCall, onStart: () => void): Promise<Guessed> {
    const { drafting, ...rest } = call;
    const { draft } = state;
    if (drafting === undefined || draft === undefined) return { call: rest, ms: 0 };
    const startMs = performance.now();
    const predictedMs = rest.predictedMs - drafting.predictedMs;
    let guesses: ReadonlyMap<number, readonly TokenId[]> = new Map();
    try {
      guesses = await this.#run(draft, { ...drafting, drafts: call.drafts, onStart });
    } catch (error) {
      state.draft = undefined;
      warn("The draft model is not used any more", error);
      await this.dispose().catch((cause: unknown) => warn("Its memory could not be freed", cause));
    }
    return { call: withGuesses({ ...rest, predictedMs }, guesses), ms: performance.now() - startMs };
  }

  /** Compares the guesses for one slot with what was drawn. */
  learn(
    { draft }: SchedulerState,
    { slot, tokens, guesses = 0, byModel }: PlannedEntry,
    draws: Draws | undefined,
  ): void {
    if (byModel !== true || draft === undefined || draws === undefined || draws instanceof EngineError)
      return;
    noteGuesses(
      draft,
      slot,
      draws.slice(0, guesses).map(({ token }, i) => token === tokens[i + 1]),
    );
  }

  /** Frees its memory, once. */
  dispose(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#drawing;
    this.#sampler.dispose();
    await this.#backend.close();
  }

  async #run(
    draft: DraftModel,
    work: PlannedDrafting & { readonly drafts: number; readonly onStart: () => void },
  ): Promise<ReadonlyMap<number, readonly TokenId[]>> {
    const { catchUp, feeds, drafts, onStart } = work;
    if (catchUp !== undefined) {
      const startMs = performance.now();
      const { done } = this.#backend.run([this.#entry(catchUp, false)]);
      onStart();
      await done;
      noteFed(draft, catchUp.slot, catchUp.position, catchUp.tokens);
      const observedMs = performance.now() - startMs;
      learnDraftCost(draft, "prefill", observedMs, catchUp.unscaledMs);
    }
    const guesses = new Map<number, TokenId[]>(feeds.map(({ slot }) => [slot, []]));
    const startMs = performance.now();
    let next: readonly DraftFeed[] = feeds;
    for (let i = 0; i < drafts && feeds.length > 0; i++) {
      const drawn = await this.#draw(next, onStart);
      for (const { slot, position, tokens } of next) noteFed(draft, slot, position, tokens);
      next = next.map(({ slot, position, tokens }, at) => {
        const token = drawn[at] ?? 0;
        guesses.get(slot)?.push(token);
        return { slot, position: position + tokens.length, tokens: Uint32Array.of(token) };
      });
    }
    const observedMs = performance.now() - startMs;
    if (feeds.length > 0) learnDraftCost(draft, "decode", observedMs, work.unscaledMs);
    return new Map(Array.from(guesses, ([slot, tokens]) => [slot, this.#usable(tokens)]));
  }

  /** Feeds each slot and draws its most likely next token. */
  async #draw(feeds: readonly DraftFeed[], onStart: () => void): Promise<TokenId[]> {
    const { logits, done } = this.#backend.run(feeds.map((feed) => this.#entry(feed, true)));
    const early = this.#backend.drawsInOrder ? this.#sample(logits) : undefined;
    // When the call fails, that its draws fail too is no news.
    early?.catch(() => undefined);
    onStart();
    await done;
    return early ?? this.#sample(logits);
  }

  async #sample(logits: readonly LogitsHandle[]): Promise<TokenId[]> {
    if (this.#backend.drawsInOrder) {
      const draws = logits.map((handle) => this.#sampler.sample(handle, 0, []));
      this.#drawing = Promise.allSettled(draws);
      return (await Promise.all(draws)).map(({ token }) => token);
    }
    // One sampler is not for two threads.
    const tokens: TokenId[] = [];
    for (const handle of logits) tokens.push((await this.#sampler.sample(handle, 0, [])).token);
    return tokens;
  }

  #entry({ slot, position, tokens }: DraftFeed, sample: boolean): BatchEntry {
    if ((this.#cells[slot] ?? 0) > position) this.#backend.truncate(slot, position);
    this.#cells[slot] = position + tokens.length;
    const { vocabSize } = this.#backend.facts;
    // Tokens that only the other model has are rare; a guess behind another token in their place is as good as none.
    const known = tokens.some((token) => token >= vocabSize)
      ? tokens.map((token) => (token < vocabSize ? token : 0))
      : tokens;
    return { slot, position, tokens: known, sample };
  }

  #usable(tokens: readonly TokenId[]): readonly TokenId[] {
    const end = tokens.findIndex((token) => this.#endTokens.has(token) || token >= this.#targetVocabulary);
    return end < 0 ? tokens : tokens.slice(0, end);
  }
}

/** The guesses in place of those that were still to be made; where all of them are short, so is the call. */
function withGuesses(call: PlannedCall, guesses: ReadonlyMap<number, readonly TokenId[]>): PlannedCall {
  const entries = call.entries.map((entry) => {
    const made = entry.byModel === true ? (guesses.get(entry.slot) ?? []) : undefined;
    if (made === undefined) return entry;
    const tokens = entry.tokens.slice();
    tokens.set(made, 1);
    return { ...entry, tokens, guesses: made.length };
  });
  const drafts = Math.max(0, ...entries.map((entry) => entry.guesses ?? 0));
  if (drafts === call.drafts) return { ...call, entries };
  const each = 1 + drafts;
  return {
    ...call,
    entries: entries.map(({ tokens, ...entry }) => ({ ...entry, tokens: tokens.subarray(0, each) })),
    tokens: entries.length * each,
    drafts,
    unscaledMs: 0,
  };
}
