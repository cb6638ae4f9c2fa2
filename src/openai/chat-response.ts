/** A chat completion on the wire: its chunks and its whole body. */
import type { TokenTable } from "../../models/text/token-table.ts";
import type { ReasoningField } from "../deps.ts";
import type { ChoiceEvent, FinishedAnswer, FinishedChoice } from "../choices.ts";
import type { DeltaEvent, FinishEvent, GenerationUsage } from "../generate.ts";
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

/** A role is written together with its choice's first event: a chunk before the first token would fake the TTFT. */
export function chatEventWriter(answer: ChatAnswer): EventWriter {
  const started = new Set<number>();
  return (choice) => {
    const role = started.has(choice.index) ? "" : roleFrame(choice, answer);
    started.add(choice.index);
    const { event } = choice;
    return (
      role +
      (event.kind === "finish" ? finishFrame(choice, event, answer) : deltaFrame(choice, event, answer)) +
      (choice.last && answer.delivery.includeUsage ? usageFrame(choice.usage, answer) : "")
    );
  };
}

export function chatBody({ choices, usage, timings }: FinishedAnswer, answer: ChatAnswer): object {
  const { id, created, model, fingerprint } = answer.head;
  return {
    id,
    object: "chat.completion",
    created,
    model,
    choices: choices.map((choice) => choiceJson(choice, answer)),
    usage: usageJson(usage),
    service_tier: "default",
    system_fingerprint: `fp_${fingerprint}`,
    timings: timingsJson(usage, timings),
    ...(answer.delivery.tokenIds ? { prompt_token_ids: answer.promptTokens } : {}),
  };
}

function choiceJson({ index, events, finish }: FinishedChoice, answer: ChatAnswer): object {
  const deltas = events.filter((event) => event.kind !== "finish");
  const textOf = (kind: DeltaEvent["kind"]): string =>
    deltas.filter((delta) => delta.kind === kind).reduce((text, delta) => text + delta.text, "");
  const reasoning = textOf("reasoning");
  return {
    index,
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
  };
}

function roleFrame({ index, event, usage }: ChoiceEvent, answer: ChatAnswer): string {
  const delta = { role: "assistant", content: "", refusal: null };
  const { includeUsage, continuousUsage, tokenIds } = answer.delivery;
  const before = { ...usage, completionTokens: usage.completionTokens - event.tokenIds.length };
  return sseFrame({
    ...chunkHead(answer),
    choices: [{ index, delta, logprobs: null, finish_reason: null }],
    ...(tokenIds ? { prompt_token_ids: answer.promptTokens } : {}),
    ...(includeUsage ? { usage: continuousUsage ? usageJson({ ...before, reasoningTokens: 0 }) : null } : {}),
  });
}

function deltaFrame(choice: ChoiceEvent, event: DeltaEvent, answer: ChatAnswer): string {
  const delta =
    event.kind === "content" ? { content: event.text } : reasoningJson(event.text, answer.reasoningField);
  const logprobs =
    answer.logprobs && event.kind === "content"
      ? { content: contentLogprobs(event, answer), refusal: null }
      : null;
  return sseFrame({
    ...chunkHead(answer),
    choices: [
      {
        index: choice.index,
        delta,
        logprobs,
        finish_reason: null,
        ...tokenIdsJson(event, answer.delivery),
      },
    ],
    ...chunkExtras(choice, answer.delivery),
  });
}

function finishFrame(choice: ChoiceEvent, event: FinishEvent, answer: ChatAnswer): string {
  return sseFrame({
    ...chunkHead(answer),
    choices: [
      {
        index: choice.index,
        delta: {},
        logprobs: null,
        finish_reason: event.reason,
        stop_reason: event.stopReason ?? null,
        ...tokenIdsJson(event, answer.delivery),
      },
    ],
    ...chunkExtras(choice, answer.delivery),
  });
}

function usageFrame(usage: GenerationUsage, answer: ChatAnswer): string {
  return sseFrame({ ...chunkHead(answer), choices: [], usage: usageJson(usage) });
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
