/** Answers in llama.cpp's own dialect: one flat object for each prompt, or for each piece of its stream. */
import type { DryParams, TokenId } from "../../engine/protocol.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import type { DeltaToken } from "../../models/text/text-pipeline.ts";
import type { FinishedAnswer, FinishedChoice } from "../choices.ts";
import type { FinishEvent, GenerationEvent } from "../generation-events.ts";
import { sseFrame } from "../http/sse.ts";
import type { EventWriter } from "../openai/answer.ts";
import type { GenerationSettings } from "../openai/generation-fields.ts";
import { chatLogprobs } from "../openai/logprobs.ts";
import type { ChatTokenJson } from "../openai/logprobs.ts";
import { eventTimingsJson, promptProgressJson, timingsJson } from "../openai/usage.ts";
import type { NativeRequest } from "./native-request.ts";

export interface NativeAnswer {
  readonly model: LoadedModel;
  readonly request: NativeRequest;
  /** As it is generated. */
  readonly generation: GenerationSettings;
  /** By prompt. */
  readonly promptTokens: readonly (readonly TokenId[])[];
}

/** Every event becomes a frame, the last of a prompt with `stop: true` and what the whole answer has. */
export function nativeEventWriter(answer: NativeAnswer): EventWriter {
  const newLines = new Set<number>();
  const timed = answer.request.completion.delivery.timingsPerToken;
  return ({ index, event }) => {
    const content = textOf(event);
    if (content.includes("\n")) newLines.add(index);
    const piece = {
      index,
      content,
      tokens: event.tokenIds,
      id_slot: NO_SLOT,
      stop: event.kind === "finish",
      tokens_predicted: event.usage.completionTokens,
      tokens_evaluated: event.usage.promptTokens,
      ...(timed ? { timings: eventTimingsJson(event) } : {}),
      ...(event.kind === "prefill" ? promptProgressJson(event) : {}),
      ...probabilities([event], answer),
    };
    if (event.kind !== "finish") return sseFrame(piece);
    return sseFrame({ ...piece, ...endJson(index, event, answer), has_new_line: newLines.has(index) });
  };
}

/** An object for one answer, a list for several. */
export function nativeBody({ choices }: FinishedAnswer, answer: NativeAnswer): object {
  const bodies = choices.map((choice) => pick(choiceJson(choice, answer), answer.request.responseFields));
  return bodies.length === 1 ? (bodies[0] ?? {}) : bodies;
}

/** As llama.cpp writes that they are off; a request for more of them is refused. */
const SAMPLERS_WE_LACK = {
  typical_p: 1,
  top_n_sigma: -1,
  dynatemp_range: 0,
  mirostat: 0,
  adaptive_target: -1,
  adaptive_decay: 0,
};

/** Which slot served it is not told: it may have been several. */
const NO_SLOT = -1;

function choiceJson({ index, events, finish }: FinishedChoice, answer: NativeAnswer): object {
  const content = events.map(textOf).join("");
  return {
    index,
    content,
    tokens: answer.request.returnTokens ? events.flatMap(({ tokenIds }) => tokenIds) : [],
    id_slot: NO_SLOT,
    stop: true,
    tokens_predicted: finish.usage.completionTokens,
    tokens_evaluated: finish.usage.promptTokens,
    ...endJson(index, finish, answer),
    has_new_line: content.includes("\n"),
    ...probabilities(events, answer),
  };
}

function endJson(index: number, finish: FinishEvent, answer: NativeAnswer): object {
  const { model, request, generation, promptTokens } = answer;
  const { usage, timings, reason, stopReason } = finish;
  const used = usage.promptTokens + usage.completionTokens;
  const word = typeof stopReason === "string" ? stopReason : undefined;
  return {
    model: model.id,
    generation_settings: settingsJson(generation, model),
    prompt: model.tokens.text(promptTokens[Math.floor(index / request.completion.choices)] ?? []),
    truncated: reason === "length" && used >= model.facts.contextTokens,
    stop_type: reason === "length" ? "limit" : word === undefined ? "eos" : "word",
    stopping_word: word ?? "",
    tokens_cached: used,
    timings: timingsJson(usage, timings),
  };
}

function settingsJson(
  { sampling, ...settings }: GenerationSettings,
  { facts, ...model }: LoadedModel,
): object {
  const banned = settings.ignoreEos ? facts.endTokens.map((token) => ({ token, bias: null })) : [];
  return {
    n_ctx: facts.contextTokens,
    n_predict: settings.maxTokens ?? -1,
    seed: sampling.seed,
    temperature: sampling.temperature ?? model.sampling.temperature,
    top_k: sampling.topK,
    top_p: sampling.topP ?? model.sampling.topP,
    min_p: sampling.minP,
    repeat_last_n: sampling.repeatLastTokens === 0 ? -1 : sampling.repeatLastTokens,
    repeat_penalty: sampling.repeatPenalty,
    presence_penalty: sampling.presencePenalty,
    frequency_penalty: sampling.frequencyPenalty,
    xtc_probability: sampling.xtcProbability,
    xtc_threshold: sampling.xtcThreshold,
    ...dryJson(sampling.dry),
    ...SAMPLERS_WE_LACK,
    stop: settings.stops,
    ignore_eos: settings.ignoreEos,
    logit_bias: [...sampling.logitBias.map(([token, bias]) => ({ token, bias })), ...banned],
    n_probs: settings.topLogprobs ?? 0,
  };
}

function dryJson(dry: DryParams | undefined): object {
  return {
    dry_multiplier: dry?.multiplier ?? 0,
    ...(dry === undefined
      ? {}
      : {
          dry_base: dry.base,
          dry_allowed_length: dry.allowedLength,
          dry_penalty_last_n: dry.lastTokens === 0 ? -1 : dry.lastTokens,
          dry_sequence_breakers: dry.breakers,
        }),
  };
}

function probabilities(
  events: readonly GenerationEvent[],
  { model, request, generation }: NativeAnswer,
): object {
  if (request.completion.logprobs === undefined) return {};
  const tokens = events.flatMap((event) => (event.kind === "content" ? event.tokens : []));
  if (tokens.length === 0 && events.every(({ kind }) => kind === "finish" || kind === "prefill")) return {};
  const json = chatLogprobs(tokens, { table: model.tokens, asIds: false });
  const scored = tokens.filter(({ logprobs }) => logprobs !== undefined);
  const scores = scored.map((token, i) => withIds(token, json[i], model));
  return {
    completion_probabilities: generation.logprobsOfDraws === true ? scores.map(asChances) : scores,
  };
}

interface ScoredToken {
  readonly logprob?: number;
  readonly top_logprobs: readonly { readonly logprob: number }[];
}

/** As llama.cpp writes what a draw chose from: chances in place of their logarithms, without those who had none. */
function asChances({ logprob = 0, top_logprobs, ...token }: ScoredToken): object {
  const top = top_logprobs.map(({ logprob: ofOther, ...other }) => ({ ...other, prob: Math.exp(ofOther) }));
  return { ...token, prob: Math.exp(logprob), top_probs: top.filter(({ prob }) => prob > 0) };
}

/** As chat writes them, with the ids of the tokens, and with bytes also for control tokens. */
function withIds(
  { token, logprobs }: DeltaToken,
  json: ChatTokenJson | undefined,
  { tokens: table }: LoadedModel,
): ScoredToken {
  const identity = (id: TokenId): object => ({ id, bytes: [...table.bytes(id)] });
  const top = (json?.top_logprobs ?? []).flatMap((alternative, i) => {
    const id = logprobs?.top[i]?.[0];
    return id === undefined ? [] : [{ ...alternative, ...identity(id) }];
  });
  return { ...json, ...identity(token), top_logprobs: top };
}

/** The keys asked for, each under the path it was asked by. */
function pick(body: object, fields: readonly string[] | undefined): object {
  if (fields === undefined) return body;
  const picked = new Map<string, unknown>();
  for (const field of fields) {
    const value = field.split("/").reduce<unknown>(valueAt, body);
    if (value !== undefined) picked.set(field, value);
  }
  return Object.fromEntries(picked);
}

function valueAt(value: unknown, key: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
  return (value as Readonly<Record<string, unknown>>)[key];
}

function textOf(event: GenerationEvent): string {
  return event.kind === "content" ? event.text : "";
}
