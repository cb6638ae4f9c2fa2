/** A legacy completion on the wire: its chunks and its whole body. */
import type { TokenTable } from "../../models/text/token-table.ts";
import type { FinishEvent, GenerationEvent } from "../generate.ts";
import { sseFrame } from "../http/sse.ts";
import { chunkExtras, tokenIdsJson } from "./answer.ts";
import type { AnswerHead, EventWriter } from "./answer.ts";
import type { DeliverySettings } from "./generation-fields.ts";
import { LegacyLogprobs } from "./logprobs.ts";
import { timingsJson, usageJson } from "./usage.ts";

export interface CompletionAnswer {
  readonly head: AnswerHead;
  readonly delivery: DeliverySettings;
  readonly logprobs: boolean;
  readonly table: TokenTable;
  readonly promptTokens: readonly number[];
  /** Where the offsets of logprobs begin. */
  readonly promptCharacters: number;
}

export function completionEventWriter(answer: CompletionAnswer): EventWriter {
  const legacy = new LegacyLogprobs(answer.table, answer.promptCharacters);
  let started = false;
  return (event) => {
    const finish = event.kind === "finish";
    const promptIds = answer.delivery.tokenIds && !started ? { prompt_token_ids: answer.promptTokens } : {};
    started = true;
    const frame = sseFrame({
      ...answerHead(answer),
      choices: [
        {
          text: finish ? "" : event.text,
          index: 0,
          logprobs: finish || !answer.logprobs ? null : legacy.next(event.tokens),
          finish_reason: finish ? event.reason : null,
          ...(finish ? { stop_reason: event.stopReason ?? null } : {}),
          ...tokenIdsJson(event, answer.delivery),
          ...promptIds,
        },
      ],
      ...chunkExtras(event, answer.delivery),
    });
    if (!finish || !answer.delivery.includeUsage) return frame;
    return frame + sseFrame({ ...answerHead(answer), choices: [], usage: usageJson(event.usage) });
  };
}

/** @param events Every event of the answer; the last is the finish. */
export function completionBody(
  events: readonly GenerationEvent[],
  finish: FinishEvent,
  answer: CompletionAnswer,
): object {
  const deltas = events.filter((event) => event.kind !== "finish");
  const legacy = new LegacyLogprobs(answer.table, answer.promptCharacters);
  return {
    ...answerHead(answer),
    choices: [
      {
        text: deltas.map((delta) => delta.text).join(""),
        index: 0,
        logprobs: answer.logprobs ? legacy.next(deltas.flatMap((delta) => delta.tokens)) : null,
        finish_reason: finish.reason,
        stop_reason: finish.stopReason ?? null,
        ...(answer.delivery.tokenIds
          ? { token_ids: events.flatMap((event) => event.tokenIds), prompt_token_ids: answer.promptTokens }
          : {}),
      },
    ],
    usage: usageJson(finish.usage),
    timings: timingsJson(finish.usage, finish.timings),
  };
}

function answerHead({ head }: CompletionAnswer): object {
  return {
    id: head.id,
    object: "text_completion",
    created: head.created,
    model: head.model,
    system_fingerprint: `fp_${head.fingerprint}`,
  };
}
