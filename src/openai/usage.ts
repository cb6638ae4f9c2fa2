/** Token counts and times as clients read them: OpenAI's `usage`, llama.cpp's `timings`. */
import type {
  GenerationEvent,
  GenerationTimings,
  GenerationUsage,
  PrefillEvent,
} from "../generation-events.ts";

export function usageJson(usage: GenerationUsage): object {
  const { promptTokens, completionTokens, cachedTokens, reasoningTokens } = usage;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: reasoningTokens,
      audio_tokens: 0,
      accepted_prediction_tokens: usage.predictionsRight,
      rejected_prediction_tokens: usage.predictionsWrong,
    },
  };
}

/** llama.cpp's `prompt_progress`. */
export function promptProgressJson({ usage, computedTokens, ms }: PrefillEvent): object {
  const { promptTokens: total, cachedTokens: cache } = usage;
  return { prompt_progress: { total, cache, processed: computedTokens, time_ms: Math.round(ms) } };
}

/** `timingsJson` of an event; those of a prompt in the making count what is there of it. */
export function eventTimingsJson(event: GenerationEvent): object {
  if (event.kind !== "prefill") return timingsJson(event.usage, event.timings);
  const usage = { ...event.usage, promptTokens: event.computedTokens };
  return timingsJson(usage, { prefillMs: event.ms, decodeMs: 0 });
}

/** Rates are 0 where nothing was timed. The first token belongs to the prompt's time, so n tokens are n - 1 steps. */
export function timingsJson(usage: GenerationUsage, timings: GenerationTimings): object {
  const computed = usage.promptTokens - usage.cachedTokens;
  const drafted = usage.guessesRight + usage.guessesWrong;
  const steps = Math.max(0, usage.completionTokens - 1);
  return {
    cache_n: usage.cachedTokens,
    prompt_n: computed,
    prompt_ms: timings.prefillMs,
    prompt_per_token_ms: ratio(timings.prefillMs, computed),
    prompt_per_second: ratio(computed * 1000, timings.prefillMs),
    predicted_n: usage.completionTokens,
    predicted_ms: timings.decodeMs,
    predicted_per_token_ms: ratio(timings.decodeMs, steps),
    predicted_per_second: ratio(steps * 1000, timings.decodeMs),
    ...(drafted > 0 ? { draft_n: drafted, draft_n_accepted: usage.guessesRight } : {}),
  };
}

function ratio(amount: number, by: number): number {
  return by > 0 ? amount / by : 0;
}
