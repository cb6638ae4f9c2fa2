/** What every chunk and body of one answer has in common, and how a stream of chunks ends. */
import type { ChoiceEvent } from "../choices.ts";
import type { GenerationEvent, GenerationUsage } from "../generation-events.ts";
import { DONE_FRAME, sseFrame } from "../http/sse.ts";
import { internalError, ApiError } from "./api-error.ts";
import type { DeliverySettings } from "./generation-fields.ts";
import { eventTimingsJson, promptProgressJson, usageJson } from "./usage.ts";

export interface AnswerHead {
  readonly id: string;
  /** Unix seconds. */
  readonly created: number;
  readonly model: string;
  /** As `fingerprintOf` says. */
  readonly fingerprint: string;
}

/** How the stream of an answer came to its end. */
export interface StreamHooks {
  /** @param usage Of the whole answer. */
  readonly onFinish: (usage: GenerationUsage) => void;
  /** An error after the headers; the client gets its frame. */
  readonly onFailure: (error: unknown) => void;
}

/** How a stream of frames ends. */
export interface StreamFraming {
  /** Behind the last frame; "" where the last event says enough. */
  readonly done: string;
  readonly failure: (error: ApiError) => string;
}

const OPENAI_FRAMING: StreamFraming = { done: DONE_FRAME, failure: (error) => sseFrame(error.body) };

/** Writes one event as the `data:` frames of its endpoint; "" for an event that shows nothing. */
export type EventWriter = (event: ChoiceEvent) => string;

/**
 * The frames of a whole stream: the events, by default `[DONE]`, the end. A failure becomes an error frame, because a
 * stream that just ends looks like a complete answer. Never throws.
 */
export async function* streamFrames(
  events: AsyncIterable<ChoiceEvent>,
  write: EventWriter,
  hooks: StreamHooks,
  framing: StreamFraming = OPENAI_FRAMING,
): AsyncGenerator<string, void, void> {
  let finished = false;
  try {
    for await (const event of events) {
      if (event.last) {
        finished = true;
        hooks.onFinish(event.usage);
        // One write, so that the end follows at once.
        yield write(event) + framing.done;
      } else {
        const frames = write(event);
        if (frames !== "") yield frames;
      }
    }
  } catch (error) {
    hooks.onFailure(error);
    const shown = error instanceof ApiError ? error : internalError();
    yield framing.failure(shown) + framing.done;
    return;
  }
  if (!finished) hooks.onFailure(undefined);
}

/** The `usage`, `timings` and `prompt_progress` keys of a chunk; absent keys are what OpenAI sends when they are not asked for. */
export function chunkExtras({ event, usage }: ChoiceEvent, delivery: DeliverySettings): object {
  const timings = event.kind === "finish" || delivery.timingsPerToken;
  return {
    ...(delivery.includeUsage ? { usage: delivery.continuousUsage ? usageJson(usage) : null } : {}),
    ...(timings ? { timings: eventTimingsJson(event) } : {}),
    ...(event.kind === "prefill" ? promptProgressJson(event) : {}),
  };
}

/** The `token_ids` key of a choice, when asked for. */
export function tokenIdsJson(event: GenerationEvent, delivery: DeliverySettings): object {
  return delivery.tokenIds ? { token_ids: event.tokenIds } : {};
}
