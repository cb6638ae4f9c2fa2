/** A legacy completion on the wire: its chunks and its whole body. */
import { promptLogprobsAt } from "../../engine/prompt-logprobs.ts";
import type { PromptLogprobs, TokenId } from "../../engine/protocol.ts";
import type { DeltaToken } from "../../models/text/text-pipeline.ts";
import type { ChoiceEvent, FinishedAnswer, FinishedChoice } from "../choices.ts";
import type { GenerationEvent } from "../generation-events.ts";
import { sseFrame } from "../http/sse.ts";
import { chunkExtras, tokenIdsJson } from "./answer.ts";
import type { AnswerHead, EventWriter } from "./answer.ts";
import type { DeliverySettings } from "./generation-fields.ts";
import {
  characterStarts,
  joinLegacyLogprobs,
  LegacyLogprobs,
  promptLogprobs,
  promptLogprobsJson,
} from "./logprobs.ts";
import type { LegacyLogprobsJson, TokenNaming } from "./logprobs.ts";
import { timingsJson, usageJson } from "./usage.ts";

export interface AnsweredPrompt {
  /** What `echo` gives back, and where the offsets of log probabilities count from. */
  readonly text: string;
  readonly tokens: readonly TokenId[];
}

export interface CompletionAnswer {
  readonly head: AnswerHead;
  readonly delivery: DeliverySettings;
  /** Whether each choice begins with its prompt; its log probabilities then count every token of both. */
  readonly echo: boolean;
  readonly logprobs: boolean;
  readonly naming: TokenNaming;
  /** Whether those of the prompts are asked for, beside what `echo` brings. */
  readonly promptLogprobs: boolean;
  readonly bosToken: TokenId | undefined;
  readonly prompts: readonly AnsweredPrompt[];
  /** Choices of each prompt. */
  readonly perPrompt: number;
}

export function completionEventWriter(answer: CompletionAnswer): EventWriter {
  const started = new Map<number, LegacyLogprobs>();
  const ofPrompts: (PromptLogprobs | undefined)[] = [];
  return (choice) => {
    const { index, event } = choice;
    if (event.kind === "prefill") return progressFrame(choice, answer);
    const first = !started.has(index);
    const legacy = started.get(index) ?? legacyLogprobs(index, answer);
    started.set(index, legacy);
    const prompt = promptIndex(index, answer);
    ofPrompts[prompt] ??= event.promptLogprobs;
    const echo = first && answer.echo;
    return (
      (echo ? promptFrame(choice, ofPrompts[prompt], answer) : "") +
      deltaFrame(choice, legacy, { ...answer, namesPrompt: first && !echo }) +
      (choice.last && answer.delivery.includeUsage
        ? sseFrame({ ...answerHead(answer), choices: [], usage: usageJson(choice.usage) })
        : "")
    );
  };
}

export function completionBody(finished: FinishedAnswer, answer: CompletionAnswer): object {
  const { choices, usage, timings } = finished;
  return {
    ...answerHead(answer),
    choices: choices.map((choice) =>
      choiceJson(choice, finished.promptLogprobs[promptIndex(choice.index, answer)], answer),
    ),
    usage: usageJson(usage),
    timings: timingsJson(usage, timings),
  };
}

function choiceJson(
  { index, events, finish }: FinishedChoice,
  ofPrompt: PromptLogprobs | undefined,
  answer: CompletionAnswer,
): object {
  const generated = events.flatMap((event) => shownTokens(event, answer));
  const legacy = legacyLogprobs(index, answer).next(generated);
  const before = answer.echo ? promptJson(index, ofPrompt, answer) : undefined;
  return {
    text: events.reduce(
      (text, event) => text + textOf(event),
      answer.echo ? promptOf(index, answer).text : "",
    ),
    index,
    logprobs: answer.logprobs ? (before === undefined ? legacy : joinLegacyLogprobs(before, legacy)) : null,
    finish_reason: finish.reason,
    stop_reason: finish.stopReason ?? null,
    ...(answer.promptLogprobs
      ? { prompt_logprobs: promptLogprobsJson(ofPrompt, promptOf(index, answer).tokens, answer.naming.table) }
      : {}),
    ...(answer.delivery.tokenIds
      ? {
          token_ids: events.flatMap((event) => event.tokenIds),
          prompt_token_ids: promptOf(index, answer).tokens,
        }
      : {}),
  };
}

function promptFrame(
  { index, event, usage }: ChoiceEvent,
  ofPrompt: PromptLogprobs | undefined,
  answer: CompletionAnswer,
): string {
  const { includeUsage, continuousUsage, tokenIds } = answer.delivery;
  const before = { ...usage, completionTokens: usage.completionTokens - event.tokenIds.length };
  const { text, tokens } = promptOf(index, answer);
  return sseFrame({
    ...answerHead(answer),
    choices: [
      {
        text,
        index,
        logprobs: answer.logprobs ? promptJson(index, ofPrompt, answer) : null,
        finish_reason: null,
        ...(tokenIds ? { token_ids: [], prompt_token_ids: tokens } : {}),
      },
    ],
    ...(includeUsage ? { usage: continuousUsage ? usageJson(before) : null } : {}),
  });
}

function progressFrame(choice: ChoiceEvent, answer: CompletionAnswer): string {
  const silent = { text: "", index: choice.index, logprobs: null, finish_reason: null };
  return sseFrame({ ...answerHead(answer), choices: [silent], ...chunkExtras(choice, answer.delivery) });
}

function deltaFrame(
  choice: ChoiceEvent,
  legacy: LegacyLogprobs,
  answer: CompletionAnswer & { readonly namesPrompt: boolean },
): string {
  const { index, event } = choice;
  const finish = event.kind === "finish";
  const shown = answer.logprobs ? shownTokens(event, answer) : [];
  return sseFrame({
    ...answerHead(answer),
    choices: [
      {
        text: textOf(event),
        index,
        logprobs: answer.logprobs && !(finish && shown.length === 0) ? legacy.next(shown) : null,
        finish_reason: finish ? event.reason : null,
        ...(finish ? { stop_reason: event.stopReason ?? null } : {}),
        ...tokenIdsJson(event, answer.delivery),
        ...(answer.delivery.tokenIds && answer.namesPrompt
          ? { prompt_token_ids: promptOf(index, answer).tokens }
          : {}),
      },
    ],
    ...chunkExtras(choice, answer.delivery),
  });
}

function textOf(event: GenerationEvent): string {
  return event.kind === "content" ? event.text : "";
}

/** The end token has no text, but who scores prompt and output together counts tokens. */
function shownTokens(event: GenerationEvent, { echo }: CompletionAnswer): readonly DeltaToken[] {
  if (event.kind === "content") return event.tokens;
  return event.kind === "finish" && echo && event.endToken !== undefined ? [event.endToken] : [];
}

function legacyLogprobs(index: number, answer: CompletionAnswer): LegacyLogprobs {
  return new LegacyLogprobs(answer.naming, characterStarts(Buffer.from(promptOf(index, answer).text)));
}

function promptJson(
  index: number,
  ofPrompt: PromptLogprobs | undefined,
  answer: CompletionAnswer,
): LegacyLogprobsJson {
  const { tokens, text } = promptOf(index, answer);
  const { bosToken, naming } = answer;
  const added =
    bosToken !== undefined && tokens[0] === bosToken && !text.startsWith(naming.table.piece(bosToken));
  const scored = tokens.map((token, i) => ({
    token,
    logprobs: ofPrompt === undefined ? undefined : promptLogprobsAt(ofPrompt, i),
  }));
  return promptLogprobs(scored, naming, added ? 1 : 0);
}

function promptOf(index: number, answer: CompletionAnswer): AnsweredPrompt {
  return answer.prompts[promptIndex(index, answer)] ?? { text: "", tokens: [] };
}

function promptIndex(index: number, { perPrompt }: CompletionAnswer): number {
  return Math.floor(index / perPrompt);
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
