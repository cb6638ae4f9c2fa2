/** A legacy completion on the wire: its chunks and its whole body. */
import type { TokenTable } from "../../models/text/token-table.ts";
import type { FinishedAnswer, FinishedChoice } from "../choices.ts";
import { isTextEvent } from "../generate.ts";
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
  const started = new Map<number, LegacyLogprobs>();
  return (choice) => {
    const { index, event } = choice;
    const finish = event.kind === "finish";
    const delta = isTextEvent(event) ? event : undefined;
    const first = !started.has(index);
    const legacy = started.get(index) ?? new LegacyLogprobs(answer.table, answer.promptCharacters);
    started.set(index, legacy);
    const frame = sseFrame({
      ...answerHead(answer),
      choices: [
        {
          text: delta?.text ?? "",
          index,
          logprobs: delta !== undefined && answer.logprobs ? legacy.next(delta.tokens) : null,
          finish_reason: finish ? event.reason : null,
          ...(finish ? { stop_reason: event.stopReason ?? null } : {}),
          ...tokenIdsJson(event, answer.delivery),
          ...(answer.delivery.tokenIds && first ? { prompt_token_ids: answer.promptTokens } : {}),
        },
      ],
      ...chunkExtras(choice, answer.delivery),
    });
    if (!choice.last || !answer.delivery.includeUsage) return frame;
    return frame + sseFrame({ ...answerHead(answer), choices: [], usage: usageJson(choice.usage) });
  };
}

export function completionBody(
  { choices, usage, timings }: FinishedAnswer,
  answer: CompletionAnswer,
): object {
  return {
    ...answerHead(answer),
    choices: choices.map((choice) => choiceJson(choice, answer)),
    usage: usageJson(usage),
    timings: timingsJson(usage, timings),
  };
}

function choiceJson({ index, events, finish }: FinishedChoice, answer: CompletionAnswer): object {
  const deltas = events.filter(isTextEvent);
  const legacy = new LegacyLogprobs(answer.table, answer.promptCharacters);
  return {
    text: deltas.map((delta) => delta.text).join(""),
    index,
    logprobs: answer.logprobs ? legacy.next(deltas.flatMap((delta) => delta.tokens)) : null,
    finish_reason: finish.reason,
    stop_reason: finish.stopReason ?? null,
    ...(answer.delivery.tokenIds
      ? { token_ids: events.flatMap((event) => event.tokenIds), prompt_token_ids: answer.promptTokens }
      : {}),
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
