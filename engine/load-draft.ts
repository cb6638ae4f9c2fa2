/** Loads a draft model beside the model that it guesses for, and refuses one that cannot. */
import { basename } from "node:path";
import { costOf } from "./calibrate.ts";
import { Drafter } from "./drafter.ts";
import { EngineError } from "./errors.ts";
import { GREEDY_PARAMS } from "./greedy-params.ts";
import { MOST_FED, createDraftModel } from "./scheduler/draft-model.ts";
import { textOf } from "./token-texts.ts";
import type { Backend, BackendLoader } from "./backend.ts";
import type { DeviceLease } from "./device-lease.ts";
import type { DraftFacts, LoadOptions, MeasuredCost, ModelFacts } from "./protocol.ts";
import type { DraftModel } from "./scheduler/types.ts";

export interface LoadedDraft {
  readonly drafter: Drafter;
  readonly model: DraftModel;
  readonly facts: DraftFacts;
  readonly measured: readonly MeasuredCost[];
}

interface DraftParts {
  readonly target: Backend;
  /** Whether the engine guesses at all. */
  readonly speculates: boolean;
  /** Turns on a device that others use too. */
  readonly lease?: DeviceLease | undefined;
  /** Told while its file is read. */
  readonly onProgress: () => void;
}

/** Models of one family pad their vocabularies to different sizes; llama.cpp's own bound for what is still one. */
const MOST_PADDING = 128;

/**
 * @param path The draft model's file.
 * @throws {EngineError} `draft_unfit` for a pair that cannot work together, and what `load` throws.
 */
export async function loadDraft(
  load: BackendLoader,
  path: string,
  options: LoadOptions,
  { target, speculates, lease, onProgress }: DraftParts,
): Promise<LoadedDraft> {
  const name = basename(path);
  checkTarget(name, target, speculates);
  const { slots, contextTokens, prefillChunk } = target.facts;
  const backend = await load(draftOptions(path, options, target.facts), onProgress);
  try {
    checkFit(name, backend, target);
    const sampler = backend.createSampler(GREEDY_PARAMS);
    const drafter = new Drafter({ backend, sampler, target: target.facts });
    const { cost, measured } = await costOf(backend, options.measured, { sampler, lease });
    const { batchTokens } = backend.facts;
    const cell = Math.min(prefillChunk, backend.facts.prefillChunk);
    const model = createDraftModel({ contextTokens, batchTokens, prefillChunk: cell }, slots, cost);
    const { parameters, sizeBytes, contextBytes } = backend.facts;
    return {
      drafter,
      model,
      facts: { name: backend.facts.name, parameters, sizeBytes, contextBytes },
      measured,
    };
  } catch (error) {
    await backend.close();
    throw error;
  }
}

/** Its context has the same slots; layers on the GPU are counted for the other model. */
function draftOptions(path: string, options: LoadOptions, target: Backend["facts"]): LoadOptions {
  return {
    modelPath: path,
    contextTokens: target.contextTokens,
    slots: target.slots,
    batchTokens: Math.max(target.prefillChunk, target.slots * MOST_FED),
    threads: options.threads,
    gpu: options.gpu,
    gpuLayers: options.gpuLayers === 0 ? 0 : undefined,
    flashAttention: options.flashAttention,
    kvCacheType: options.kvCacheType,
    prefillChunk: target.prefillChunk,
    evenSteps: options.evenSteps ?? false,
    itlTargetMs: undefined,
    maxQueued: options.maxQueued,
    deterministic: false,
    speculate: false,
  };
}

function checkTarget(draft: string, { facts, canRewind }: Backend, speculates: boolean): void {
  const refuse = (reason: string): never => {
    throw new EngineError("draft_unfit", `The draft model ${draft} would never be used: ${reason}`);
  };
  if (!facts.generates) refuse(`${facts.name} does not generate text. Drop --draft-model.`);
  if (!canRewind)
    refuse(`guesses that were wrong cannot be taken back from ${facts.name}. Drop --draft-model.`);
  if (!speculates)
    refuse(
      `where several tokens of ${facts.name} are computed together, their last bits differ from those of tokens computed one by one. Add --speculation on to use it all the same, or drop --draft-model.`,
    );
}

function checkFit(draft: string, { facts, canRewind }: Backend, target: Backend): void {
  if (!facts.generates)
    throw new EngineError("draft_unfit", `${draft} does not generate text, so it cannot be a draft model.`);
  if (!canRewind)
    throw new EngineError(
      "draft_unfit",
      `${draft} cannot take back what it has computed (recurrent state or a sliding window), so it cannot be a draft model.`,
    );
  if (facts.contextTokens < target.facts.contextTokens)
    throw new EngineError(
      "draft_unfit",
      `The draft model ${draft} has a context of ${facts.contextTokens} tokens at most. Add --context ${facts.contextTokens}, or drop --draft-model.`,
    );
  const difference = vocabularyDifference(facts, target.facts);
  if (difference === undefined) return;
  throw new EngineError(
    "draft_unfit",
    `The draft model ${draft} has another vocabulary than ${target.facts.name}: ${difference}. Choose a smaller model of the same family.`,
  );
}

type Vocabulary = Pick<ModelFacts, "vocabSize" | "tokenBytes" | "tokenOffsets">;

/** In words; undefined when the tokens of both are the same but for a few at the end of one. */
export function vocabularyDifference(draft: Vocabulary, target: Vocabulary): string | undefined {
  if (Math.abs(draft.vocabSize - target.vocabSize) > MOST_PADDING)
    return `${draft.vocabSize} tokens, not ${target.vocabSize}`;
  for (let token = 0; token < Math.min(draft.vocabSize, target.vocabSize); token++) {
    const [own, other] = [Buffer.from(textOf(draft, token)), Buffer.from(textOf(target, token))];
    if (own.equals(other)) continue;
    return `token ${token} is ${JSON.stringify(own.toString())}, not ${JSON.stringify(other.toString())}`;
  }
  return undefined;
}
