/** What a generation asks of the engine, bounded before any work is done for it. */
import type { SubmitRequest } from "../engine/client.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import type { GenerateRequest } from "./generate-request.ts";
import type { Targets } from "./metrics/service-metrics.ts";
import { MAX_BYTES_PER_CONTEXT_TOKEN } from "./http/limits.ts";
import { assertWorthReading } from "./openai/prompt-cut.ts";
import type { PromptCut } from "./openai/prompt-cut.ts";
import { classOf } from "./scheduling.ts";
import { toEngineParams } from "./openai/generation-fields.ts";

/**
 * @param isolateKeys Whether computed prompts are reused for their own key alone.
 * @throws {ApiError} 400 for a token outside the vocabulary.
 */
export function submitOf(
  model: LoadedModel,
  request: GenerateRequest,
  isolateKeys: boolean,
  nowMs: number,
): SubmitRequest {
  const { id, prompt, addBos, settings, owner } = request;
  const params = toEngineParams(settings, model.facts.vocabSize, model.sampling);
  const constrained = { ...params, grammar: request.constraint?.grammar };
  const { promptLogprobs } = request;
  const cacheScope = cacheScopeOf(owner, settings.cacheSalt, isolateKeys);
  const soon = urgencyOf(request, nowMs);
  const { applied: adapters } = model;
  const reports = request.reportsPrefill === true ? { reportsPrefill: true } : {};
  const asked = {
    id,
    prompt,
    addBos,
    params: constrained,
    promptLogprobs,
    cacheScope,
    owner,
    ...soon,
    ...reports,
  };
  const { choice } = request;
  const chosen = choice && { choice: { of: choice.of, repeatsPrompt: choice.repeatsPrompt } };
  const submit = adapters.length === 0 ? { ...asked, ...chosen } : { ...asked, ...chosen, adapters };
  if (request.predicted === undefined) return submit;
  // What is longer than any answer helps no more.
  const text = request.predicted.slice(0, model.facts.contextTokens * MAX_BYTES_PER_CONTEXT_TOKEN);
  return { ...submit, predicted: [{ text, special: false }] };
}

/** The times that its answer is meant to keep. */
export function targetsOf(
  { facts }: LoadedModel,
  { scheduling }: GenerateRequest,
  submittedMs: number,
  ttftLimitMs: number,
): Targets {
  const ownMs = (scheduling?.firstTokenByMs ?? Infinity) - submittedMs;
  return { ttftMs: Math.min(ttftLimitMs, ownMs), itlMs: facts.itlTargetMs };
}

function urgencyOf(
  { scheduling, settings }: GenerateRequest,
  nowMs: number,
): Pick<SubmitRequest, "priority" | "firstTokenWithinMs" | "endWithinMs" | "returnsWithinMs"> {
  if (scheduling === undefined) return {};
  const { firstTokenByMs, endByMs, returnsWithinMs } = scheduling;
  // What is over already is refused by the engine like what cannot be reached.
  const left = (byMs: number): number => Math.max(0, byMs - nowMs);
  return {
    priority: classOf(scheduling, settings.priority),
    ...(firstTokenByMs === undefined ? {} : { firstTokenWithinMs: left(firstTokenByMs) }),
    ...(endByMs === undefined ? {} : { endWithinMs: left(endByMs) }),
    ...(returnsWithinMs === undefined ? {} : { returnsWithinMs }),
  };
}

/** As JSON, so that no salt can look like another key's. */
function cacheScopeOf(owner: string, salt: string | undefined, isolateKeys: boolean): string | undefined {
  if (!isolateKeys && salt === undefined) return undefined;
  return JSON.stringify([isolateKeys ? owner : null, salt ?? null]);
}

/** @throws {ApiError} 400 for a text so long that counting its tokens would only take time. */
export function assertWorthTokenizing(
  { prompt, promptField }: Pick<GenerateRequest, "prompt" | "promptField">,
  { facts }: LoadedModel,
  cut?: PromptCut,
): void {
  let bytes = 0;
  for (const part of prompt) bytes += "text" in part ? Buffer.byteLength(part.text) : 0;
  assertWorthReading(bytes, facts.contextTokens, { field: promptField, cut });
}
