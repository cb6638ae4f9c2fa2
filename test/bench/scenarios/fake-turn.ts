/** A turn of a scenario without a server: time stands still until a request takes some, and a word is a token. */
import type { ChatMessage, RequestRecord, StreamedRequest, Target } from "../../../bench/client.ts";
import { PromptSource } from "../../../bench/prompts.ts";
import type { ScenarioTurn } from "../../../bench/scenarios/scenario.ts";
import { createManualClock } from "../manual-clock.ts";
import type { ManualClock } from "../manual-clock.ts";

export const target: Target = {
  url: "http://127.0.0.1:1",
  endpoint: "chat",
  model: "m",
  apiKey: undefined,
};

export interface FakeTurn {
  readonly turn: ScenarioTurn;
  readonly clock: ManualClock;
  readonly sent: readonly StreamedRequest[];
}

/** Answers one request; `index` counts them from 0. */
export type FakeAnswer = (
  request: StreamedRequest,
  index: number,
  clock: ManualClock,
) => RequestRecord | Promise<RequestRecord>;

export function fakeTurn(answer: FakeAnswer, warmup = 0): FakeTurn {
  const clock = createManualClock();
  const sent: StreamedRequest[] = [];
  const turn: ScenarioTurn = {
    target,
    clock,
    send: async (_, request) => {
      sent.push(request);
      return answer(request, sent.length - 1, clock);
    },
    seed: 1,
    roundSeed: 1,
    timeoutMs: 1000,
    warmup,
    prompts: (part, tokens, exact) =>
      PromptSource.prepare({ ...tokens, seed: part }, exact, (text) =>
        Promise.resolve(text.split(" ").length),
      ),
  };
  return { turn, clock, sent };
}

/** A request that succeeded: chunks with output at these times, one token each. */
export function recordOf(
  startMs: number,
  outputMs: readonly number[],
  fields: Partial<RequestRecord> = {},
): RequestRecord {
  return {
    startMs,
    endMs: outputMs.at(-1) ?? startMs,
    firstChunkMs: outputMs[0],
    choiceMs: outputMs,
    outputMs,
    promptTokens: 30,
    cachedTokens: 0,
    outputTokens: outputMs.length,
    countedBy: "usage",
    finishReason: "length",
    error: undefined,
    ...fields,
  };
}

/** Of a prompt that is one text. */
export function textOf({ prompt }: Pick<StreamedRequest, "prompt">): string {
  return typeof prompt === "string" ? prompt : "";
}

/** Of a prompt that is a conversation. */
export function messagesOf({ prompt }: Pick<StreamedRequest, "prompt">): readonly ChatMessage[] {
  return typeof prompt === "string" ? [] : prompt;
}
