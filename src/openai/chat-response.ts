/** A chat completion on the wire: its chunks and its whole body. */
import type { ReasoningField } from "../deps.ts";
import type { ChoiceEvent, FinishedAnswer, FinishedChoice } from "../choices.ts";
import type { DeltaEvent, FinishEvent, GenerationEvent } from "../generation-events.ts";
import { sseFrame } from "../http/sse.ts";
import { chunkExtras, tokenIdsJson } from "./answer.ts";
import type { AnswerHead, EventWriter } from "./answer.ts";
import type { DeliverySettings } from "./generation-fields.ts";
import { chatLogprobs, promptLogprobsJson } from "./logprobs.ts";
import type { ChatTokenJson, TokenNaming } from "./logprobs.ts";
import { CallDeltas, callsJson, finishReasonJson } from "./tool-calls.ts";
import type { CallStyle } from "./tool-calls.ts";
import { timingsJson, usageJson } from "./usage.ts";

export interface ChatAnswer {
  readonly head: AnswerHead;
  readonly delivery: DeliverySettings;
  /** Undefined leaves the reasoning out. */
  readonly reasoningField: ReasoningField | undefined;
  readonly logprobs: boolean;
  readonly calls: CallStyle;
  readonly naming: TokenNaming;
  /** Whether those of the prompt are asked for. */
  readonly promptLogprobs: boolean;
  readonly promptTokens: readonly number[];
  /** Whether llama.cpp's `__verbose` is asked for. */
  readonly verbose: boolean;
}

/** What the stream of one choice remembers from one event to the next. */
interface ChoiceStream {
  readonly calls: CallDeltas;
  started: boolean;
  /** Tokens of events that showed nothing. */
  hidden: readonly number[];
  /** All tokens, where they are told in the end. */
  readonly written: number[];
}

/**
 * A role is written together with its choice's first event: a chunk before the first token would fake the TTFT.
 * The tokens of an event that shows nothing go with the next one.
 */
export function chatEventWriter(answer: ChatAnswer): EventWriter {
  const streams = new Map<number, ChoiceStream>();
  return (given) => {
    const { index } = given;
    if (given.event.kind === "prefill") return deltaFrame(given, {}, answer);
    let stream = streams.get(index);
    if (stream === undefined) {
      stream = { calls: new CallDeltas(answer.calls), started: false, hidden: [], written: [] };
      streams.set(index, stream);
    }
    if (answer.verbose) stream.written.push(...given.event.tokenIds);
    return choiceFrames(withTokens(given, stream.hidden), stream, answer);
  };
}

function choiceFrames(choice: ChoiceEvent, stream: ChoiceStream, answer: ChatAnswer): string {
  const { event } = choice;
  const deltas = [...textDeltas(event, answer), ...stream.calls.next(event)];
  if (event.kind !== "finish" && deltas.length === 0) {
    stream.hidden = event.tokenIds;
    return "";
  }
  stream.hidden = [];
  const frames = stream.started ? [] : [roleFrame(choice, answer)];
  stream.started = true;
  for (const [i, delta] of deltas.entries()) {
    // Tokens are listed once: with the first chunk that they brought, or with the finish.
    const lists = i === 0 && event.kind !== "finish";
    frames.push(deltaFrame(lists ? choice : { ...choice, event: { ...event, tokenIds: [] } }, delta, answer));
  }
  if (event.kind === "finish")
    frames.push(finishFrame(choice, { ...answer, finish: event, written: stream.written }));
  if (choice.last && answer.delivery.includeUsage) frames.push(usageFrame(choice, answer));
  return frames.join("");
}

function withTokens(choice: ChoiceEvent, tokens: readonly number[]): ChoiceEvent {
  if (tokens.length === 0) return choice;
  return { ...choice, event: { ...choice.event, tokenIds: [...tokens, ...choice.event.tokenIds] } };
}

export function chatBody(finished: FinishedAnswer, answer: ChatAnswer): object {
  const { choices, usage, timings, promptLogprobs } = finished;
  const { promptTokens, naming } = answer;
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
    ...(answer.verbose
      ? verboseJson(choices[0]?.events.flatMap(({ tokenIds }) => tokenIds) ?? [], answer)
      : {}),
    ...(answer.delivery.tokenIds ? { prompt_token_ids: promptTokens } : {}),
    ...(answer.promptLogprobs
      ? { prompt_logprobs: promptLogprobsJson(promptLogprobs[0], promptTokens, naming.table) }
      : {}),
  };
}

function choiceJson({ index, events, finish }: FinishedChoice, answer: ChatAnswer): object {
  const content = textOf(events, "content");
  const reasoning = textOf(events, "reasoning");
  const calls = callsJson(events, answer.calls);
  const hasCalls = Object.keys(calls).length > 0;
  const hidesReasoning = reasoning === "" || answer.reasoningField === undefined;
  return {
    index,
    message: {
      role: "assistant",
      content: hasCalls && content === "" ? null : content,
      ...(hidesReasoning ? {} : reasoningJson(reasoning, answer.reasoningField)),
      ...calls,
      refusal: null,
      annotations: [],
    },
    logprobs: answer.logprobs
      ? { content: events.flatMap((event) => contentLogprobs(event, answer)), refusal: null }
      : null,
    finish_reason: finishReasonJson(finish.reason, answer.calls),
    stop_reason: finish.stopReason ?? null,
    ...(answer.delivery.tokenIds ? { token_ids: events.flatMap((event) => event.tokenIds) } : {}),
  };
}

function textOf(events: readonly GenerationEvent[], kind: DeltaEvent["kind"]): string {
  return events.reduce((text, event) => (event.kind === kind ? text + event.text : text), "");
}

function textDeltas(event: GenerationEvent, { reasoningField }: ChatAnswer): object[] {
  if (event.kind === "content") return [{ content: event.text }];
  if (event.kind !== "reasoning" || reasoningField === undefined) return [];
  return [reasoningJson(event.text, reasoningField)];
}

function roleFrame({ index, event, usage }: ChoiceEvent, answer: ChatAnswer): string {
  const delta = { role: "assistant", content: event.kind === "tool_call" ? null : "", refusal: null };
  const { includeUsage, continuousUsage, tokenIds } = answer.delivery;
  const before = { ...usage, completionTokens: usage.completionTokens - event.tokenIds.length };
  return sseFrame({
    ...chunkHead(answer),
    choices: [{ index, delta, logprobs: null, finish_reason: null }],
    ...(tokenIds ? { prompt_token_ids: answer.promptTokens } : {}),
    ...(includeUsage ? { usage: continuousUsage ? usageJson({ ...before, reasoningTokens: 0 }) : null } : {}),
  });
}

function deltaFrame(choice: ChoiceEvent, delta: object, answer: ChatAnswer): string {
  const { index, event } = choice;
  const logprobs =
    answer.logprobs && event.kind === "content"
      ? { content: contentLogprobs(event, answer), refusal: null }
      : null;
  return sseFrame({
    ...chunkHead(answer),
    choices: [{ index, delta, logprobs, finish_reason: null, ...tokenIdsJson(event, answer.delivery) }],
    ...chunkExtras(choice, answer.delivery),
  });
}

function finishFrame(choice: ChoiceEvent, answer: FinishedStream): string {
  const { finish: event, written } = answer;
  return sseFrame({
    ...chunkHead(answer),
    choices: [
      {
        index: choice.index,
        delta: {},
        logprobs: null,
        finish_reason: finishReasonJson(event.reason, answer.calls),
        stop_reason: event.stopReason ?? null,
        ...tokenIdsJson(event, answer.delivery),
      },
    ],
    ...chunkExtras(choice, answer.delivery),
    ...(answer.verbose ? verboseJson(written, answer) : {}),
  });
}

interface FinishedStream extends ChatAnswer {
  readonly finish: FinishEvent;
  readonly written: readonly number[];
}

/** The texts of all tokens, markup and control tokens too. */
function verboseJson(
  tokens: readonly number[],
  { promptTokens, naming: { table } }: ChatAnswer,
): { readonly __verbose: object } {
  const __verbose = {
    prompt: table.text(promptTokens),
    content: table.text(tokens),
    tokens,
    tokens_evaluated: promptTokens.length,
    tokens_predicted: tokens.length,
  };
  return { __verbose };
}

function usageFrame({ usage, event }: ChoiceEvent, answer: ChatAnswer): string {
  return sseFrame({
    ...chunkHead(answer),
    choices: [],
    usage: usageJson(usage),
    // Of the choice that ended last.
    ...(answer.delivery.timingsPerToken ? { timings: timingsJson(usage, event.timings) } : {}),
  });
}

function contentLogprobs(event: GenerationEvent, answer: ChatAnswer): ChatTokenJson[] {
  return event.kind === "content" ? chatLogprobs(event.tokens, answer.naming) : [];
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
