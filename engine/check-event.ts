/**
 * Tells rubbish from what an engine may say. An engine whose memory has gone wrong does not always die of it, and what
 * it says then must end it, not the server.
 */
import type { EngineErrorCode } from "./errors.ts";
import type { EngineCommand, EngineEvent, ModelFacts } from "./protocol.ts";

type Check = (value: unknown) => boolean;

/** Far above any real vocabulary; checked before a model is loaded, when its own is not known yet. */
const MAX_VOCABULARY = 2 ** 24;

const text: Check = (value) => typeof value === "string";
const flag: Check = (value) => typeof value === "boolean";
const number: Check = (value) => typeof value === "number" && Number.isFinite(value);
/** What a model computes may be infinite or no number; that is not the engine's fault. */
const anyNumber: Check = (value) => typeof value === "number";
const count: Check = (value) => Number.isSafeInteger(value) && Number(value) >= 0;
const positive: Check = (value) => Number.isSafeInteger(value) && Number(value) > 0;
const instance =
  (type: typeof Float32Array | typeof Uint32Array | typeof Uint8Array | typeof Uint16Array): Check =>
  (value) =>
    value instanceof type;
const list =
  (item: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(item);
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const oneOf =
  (...values: readonly string[]): Check =>
  (value) =>
    typeof value === "string" && values.includes(value);
/** Other keys may be there too. */
const record = (shape: Readonly<Record<string, Check>>): Check => {
  const checks = Object.entries(shape);
  return (value) => isRecord(value) && checks.every(([key, check]) => check(value[key]));
};
const numbersByName: Check = (value) => isRecord(value) && Object.values(value).every(number);

const ERROR_CODES: Readonly<Record<EngineErrorCode, true>> = {
  model_not_found: true,
  model_invalid: true,
  out_of_memory: true,
  runtime_incompatible: true,
  gpu_unavailable: true,
  draft_unfit: true,
  context_exceeded: true,
  prompt_too_long: true,
  empty_prompt: true,
  invalid_request: true,
  grammar_rejected: true,
  no_token_allowed: true,
  queue_full: true,
  draining: true,
  deadline_exceeded: true,
  first_token_too_late: true,
  owner_queue_full: true,
  owner_tokens_exceeded: true,
  too_many_choices: true,
  decode_failed: true,
  engine_exited: true,
  engine_crashed: true,
  internal: true,
};
const errorCode = oneOf(...Object.keys(ERROR_CODES));
const failure = { code: errorCode, message: text, details: optional(numbersByName) };

const allowance = record({
  ...shared("requests requestsLeft requestsResetMs", number),
  ...shared("tokens tokensLeft tokensResetMs", optional(number)),
});

/** The next engine plans by it. */
const cost = record({
  ...shared("decodePassMs checkPassMs", list(number)),
  ...shared("prefillCallMs prefillTokenMs copyMs decodeScale draftScale prefillScale", number),
  switchMs: optional(number),
  ...shared("prefillCellsMs decodeCellsMs", optional(number)),
  ...shared("prefillDepths decodeDepths", optional(record(shared("calls x y xx xy yy", number)))),
  spill: optional(isRecord),
  checkpoint: optional(isRecord),
});

const report = record({
  ...shared("planMs decodeMs sampleMs prefillMs", number),
  ...shared("decodeSequences prefillTokens passes running queued usedCells", count),
  ...shared("guessesRight guessesWrong modelGuessesRight modelGuessesWrong plugs", optional(count)),
  ...shared("draftMs decodeRatio prefillRatio stepMs gapMs", optional(number)),
  ...shared("copies recomputed", optional(count)),
  evictions: optional(record(shared("class share own paused", optional(count)))),
  lost: optional(record(shared("prompt copy file checkpoint", optional(count)))),
  freedMs: optional(list(number)),
  spill: optional(
    record({
      ...shared("saved restored restoredTokens dropped saveFailures restoreFailures", count),
      ms: number,
    }),
  ),
  checkpoints: optional(
    record({ ...shared("taken restored restoredTokens dropped failures", count), ms: number }),
  ),
  offload: optional(record({ ...shared("prompts tokens failures", count), ms: number })),
  cost: optional(cost),
});

const slot = record({
  ...shared("id tokens promptTokens cachedTokens outputTokens", count),
  state: text,
  ...shared("requestId owner", optional(text)),
});
const stats = record({
  ...shared("queued running contextTokens steps passes promptTokens reusedTokens outputTokens", count),
  slots: list(slot),
  byClass: optional(record(shared("waiting held prefilling decoding paused", list(count)))),
  ...shared("queuedTokens serviceGap", optional(number)),
  drafting: optional(flag),
  spill: optional(record({ ...shared("prefixes tokens bytes limitBytes", count), returnChance: number })),
  pins: optional(list(record({ name: text, ...shared("tokens bytes hits", count) }))),
  checkpoints: optional(record(shared("count bytes limitBytes", count))),
  prefillWorker: optional(oneOf("idle", "busy")),
});
const timeline = record({
  requests: list(record({ id: text })),
  steps: list(isRecord),
  offloads: list(isRecord),
});

/** The next engine takes them as they are. */
const pins = list(
  record({
    ...shared("name of", text),
    tokens: list(count),
    adapters: list(record({ adapter: count, scale: number })),
    file: optional(record({ ...shared("path digest", text), bytes: count })),
  }),
);

const facts = record({
  ...shared("name architecture device fingerprint", text),
  ...shared("parameters sizeBytes embeddingLength trainContextTokens contextBytes loadMs gpuLayers", number),
  ...shared(
    "contextTokens slots batchTokens prefillChunk itlTargetMs threads vocabSize",
    (value) => number(value) && Number(value) >= 0,
  ),
  gpu: oneOf("cuda", "vulkan", "metal", "off"),
  ...shared("flashAttention addBos generates ranking", flag),
  chatTemplate: optional(text),
  tokenBytes: instance(Uint8Array),
  tokenOffsets: instance(Uint32Array),
  tokenAttributes: instance(Uint16Array),
  fim: optional(isRecord),
  embeddings: optional(
    record({ ...shared("dimensions contextTokens", positive), pooling: oneOf("mean", "cls", "last") }),
  ),
  adapters: optional(list(record({ fingerprint: text }))),
  draft: optional(record({ name: text, ...shared("parameters sizeBytes contextBytes", number) })),
  spill: optional(record({ directory: text, inMemory: flag, limitBytes: number })),
  checkpointBytes: optional(number),
  pins: optional(pins),
  measured: optional(list(record({ of: text, cost }))),
});

/** The answer to each call. */
const ANSWERS: Readonly<Record<string, EngineEvent["type"]>> = {
  tokenize: "tokenized",
  embed: "embedded",
  rank: "ranked",
  pin: "pinned",
  stats: "stats",
  timeline: "timeline",
  drain: "drained",
};

/** Whether an event is the answer to a call, or its failure. */
export function answersCall(event: EngineEvent, command: EngineCommand): boolean {
  if (event.type === "call_failed") return true;
  if (event.type !== ANSWERS[command.type]) return false;
  if (command.type === "embed" && event.type === "embedded")
    return event.vectors.length === command.inputs.length;
  if (command.type === "rank" && event.type === "ranked")
    return event.scores.length === command.documents.length;
  return true;
}

export class EventChecker {
  readonly #checks: ReadonlyMap<string, Check>;

  /** @param vocabSize Of the loaded model; undefined before there is one. */
  constructor(vocabSize: number = MAX_VOCABULARY) {
    const token: Check = (value) => count(value) && Number(value) < vocabSize;
    const logprobs = record({
      logprob: anyNumber,
      top: list((pair) => Array.isArray(pair) && pair.length === 2 && token(pair[0]) && anyNumber(pair[1])),
    });
    const promptLogprobs = record({
      top: count,
      ...shared("logprobs topLogprobs", instance(Float32Array)),
      topTokens: (value) => value instanceof Uint32Array && value.every((id) => id < vocabSize),
    });
    const output = record({
      id: text,
      tokens: list(token),
      logprobs: optional(list(logprobs)),
      start: optional(
        record({
          ...shared("slot cachedTokens", count),
          ...shared("queueMs prefillMs", number),
          heldMs: optional(number),
          cachedFrom: optional(oneOf("slot", "copy", "file", "checkpoint")),
          promptLogprobs: optional(promptLogprobs),
        }),
      ),
      finish: optional(record({ reason: oneOf("stop", "length", "abort"), stopToken: optional(token) })),
      prefill: optional(record({ ...shared("cachedTokens computedTokens", count), ms: number })),
      guessed: optional(count),
      ofPrediction: optional(flag),
    });
    const wholeOutput: Check = (value) =>
      output(value) &&
      isRecord(value) &&
      (value["logprobs"] === undefined || lengthOf(value["logprobs"]) === lengthOf(value["tokens"]));
    const call = { call: positive };
    const work = record({ calls: count, ms: number });
    this.#checks = new Map(
      Object.entries({
        load_progress: record({ ratio: number }),
        loaded: record({ facts: (value) => facts(value) && tablesFit(value as ModelFacts) }),
        companion: record({ pid: optional(positive) }),
        device_wanted: record({}),
        device_freed: record({ again: flag }),
        load_failed: record({ code: errorCode, message: text }),
        accepted: record({ id: text, promptTokens: list(token), queuePosition: count }),
        failed: record({ id: text, ...failure }),
        step: record({
          outputs: list(wholeOutput),
          moves: optional(list(record({ id: text, to: oneOf("queue", "prefill") }))),
          before: optional(list(report)),
          report,
        }),
        tokenized: record({ ...call, tokens: list(list(token)) }),
        embedded: record({
          ...call,
          vectors: list(instance(Float32Array)),
          tokenCounts: list(count),
          work,
          allowance: optional(allowance),
        }),
        ranked: record({
          ...call,
          scores: list(anyNumber),
          tokenCounts: list(count),
          work,
          allowance: optional(allowance),
        }),
        pinned: record({ ...call, pins }),
        stats: record({ ...call, stats }),
        timeline: record({ ...call, timeline }),
        drained: record(call),
        call_failed: record({ ...call, ...failure }),
      } satisfies Record<EngineEvent["type"], Check>),
    );
  }

  /** Whether it is an event whose every part is what it has to be. */
  accepts(event: unknown): event is EngineEvent {
    if (!isRecord(event) || typeof event["type"] !== "string") return false;
    return this.#checks.get(event["type"])?.(event) === true;
  }
}

/** Whether every token has bytes, an attribute and a place in the vocabulary. */
function tablesFit(model: ModelFacts): boolean {
  const { vocabSize, tokenOffsets, tokenBytes, tokenAttributes, endTokens, bosToken, eosToken, fim } = model;
  const isToken = (value: unknown): boolean => count(value) && Number(value) < vocabSize;
  return (
    Number.isInteger(vocabSize) &&
    vocabSize < MAX_VOCABULARY &&
    tokenOffsets.length === vocabSize + 1 &&
    tokenAttributes.length === vocabSize &&
    tokenOffsets.every((offset, i) => i === 0 || offset >= (tokenOffsets[i - 1] ?? 0)) &&
    (tokenOffsets.at(-1) ?? 0) <= tokenBytes.length &&
    list(isToken)(endTokens) &&
    optional(isToken)(bosToken) &&
    optional(isToken)(eosToken) &&
    (fim === undefined || Object.values(fim).every(isToken))
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function lengthOf(value: unknown): number {
  return Array.isArray(value) ? value.length : -1;
}

function shared(names: string, check: Check): Record<string, Check> {
  return Object.fromEntries(names.split(" ").map((name) => [name, check]));
}
