/** A chat completion on the wire: its chunks and its whole body. */
import type { TokenTable } from "../../models/text/token-table.ts";
import type { ReasoningField } from "../deps.ts";
import type { DeltaEvent, FinishEvent, GenerationEvent } from "../generate.ts";
import { sseFrame } from "../http/sse.ts";
import { chunkExtras, tokenIdsJson } from "./answer.ts";
import type { AnswerHead, EventWriter } from "./answer.ts";
import type { DeliverySettings } from "./generation-fields.ts";
import { chatLogprobs } from "./logprobs.ts";
import type { ChatTokenJson } from "./logprobs.ts";
import { timingsJson, usageJson } from "./usage.ts";

export interface ChatAnswer {
  readonly head: AnswerHead;
  readonly delivery: DeliverySettings;
  readonly reasoningField: ReasoningField;
  readonly logprobs: boolean;
  readonly table: TokenTable;
  readonly promptTokens: readonly number[];
}

/** The role is written together with the first event: a chunk before the first token would fake the TTFT. */
export function chatEventWriter(answer: ChatAnswer): EventWriter {
  let started = false;
  return (event) => {
    const role = started ? "" : roleFrame(event, answer);
    started = true;
    return role + (event.kind === "finish" ? finishFrames(event, answer) : deltaFrame(event, answer));
  };
}

/** @param events Every event of the answer; the last is the finish. */
export function chatBody(
  events: readonly GenerationEvent[],
  finish: FinishEvent,
  answer: ChatAnswer,
): object {
  const deltas = events.filter((event) => event.kind !== "finish");
  const textOf = (kind: DeltaEvent["kind"]): string =>
    deltas.filter((delta) => delta.kind === kind).reduce((text, delta) => text + delta.text, "");
  const reasoning = textOf("reasoning");
  const { id, created, model, fingerprint } = answer.head;
  return {
    id,
    object: "chat.completion",
    created,
    model,
    choices: [
      {
        index: 0,
        message: {
          role: "assistant",
          content: textOf("content"),
          ...(reasoning === "" ? {} : reasoningJson(reasoning, answer.reasoningField)),
          refusal: null,
          annotations: [],
        },
        logprobs: answer.logprobs
          ? { content: deltas.flatMap((delta) => contentLogprobs(delta, answer)), refusal: null }
          : null,
        finish_reason: finish.reason,
        stop_reason: finish.stopReason ?? null,
        ...(answer.delivery.tokenIds ? { token_ids: events.flatMap((event) => event.tokenIds) } : {}),
      },
    ],
    usage: usageJson(finish.usage),
    service_tier: "default",
    system_fingerprint: `fp_${fingerprint}`,
    timings: timingsJson(finish.usage, finish.timings),
    ...(answer.delivery.tokenIds ? { prompt_token_ids: answer.promptTokens } : {}),
  };
}

function roleFrame(event: GenerationEvent, answer: ChatAnswer): string {
  const delta = { role: "assistant", content: "", refusal: null };
  const { includeUsage, tokenIds } = answer.delivery;
  return sseFrame({
    ...chunkHead(answer),
    choices: [{ index: 0, delta, logprobs: null, finish_reason: null }],
    ...(tokenIds ? { prompt_token_ids: answer.promptTokens } : {}),
    ...(includeUsage
      ? {
          usage: answer.delivery.continuousUsage
            ? usageJson({ ...event.usage, completionTokens: 0, reasoningTokens: 0 })
            : null,
        }
      : {}),
  });
}

function deltaFrame(event: DeltaEvent, answer: ChatAnswer): string {
  const delta =
    event.kind === "content" ? { content: event.text } : reasoningJson(event.text, answer.reasoningField);
  const logprobs =
    answer.logprobs && event.kind === "content"
      ? { content: contentLogprobs(event, answer), refusal: null }
      : null;
  return sseFrame({
    ...chunkHead(answer),
    choices: [{ index: 0, delta, logprobs, finish_reason: null, ...tokenIdsJson(event, answer.delivery) }],
    ...chunkExtras(event, answer.delivery),
  });
}

function finishFrames(event: FinishEvent, answer: ChatAnswer): string {
  const finish = sseFrame({
    ...chunkHead(answer),
    choices: [
      {
        index: 0,
        delta: {},
        logprobs: null,
        finish_reason: event.reason,
        stop_reason: event.stopReason ?? null,
        ...tokenIdsJson(event, answer.delivery),
      },
    ],
    ...chunkExtras(event, answer.delivery),
  });
  if (!answer.delivery.includeUsage) return finish;
  return finish + sseFrame({ ...chunkHead(answer), choices: [], usage: usageJson(event.usage) });
}

function contentLogprobs(event: DeltaEvent, answer: ChatAnswer): ChatTokenJson[] {
  return event.kind === "content" ? chatLogprobs(event.tokens, answer.table) : [];
}

function reasoningJson(text: string, field: ReasoningField): object {
  if (field === "both") return { reasoning_content: text, reasoning: text };
  return { [field]: text };
}

function chunkHead({ head }: ChatAnswer): object {
  return {
    id: head.id,
    object: "chat.completion.chunk",
    created: head.created,
    model: head.model,
    system_fingerprint: `fp_${head.fingerprint}`,
  };
}
