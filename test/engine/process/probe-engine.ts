/** An engine without a model that answers `tokenize` in ways that probe the transport. */
import { setImmediate } from "node:timers";
import { fakeFacts } from "../../../engine/fake/facts.ts";
import type { EngineFactory } from "../../../engine/process/serve.ts";
import type { EngineEvent } from "../../../engine/protocol.ts";

/** Tables as long as a real vocabulary's, so that a message spans many pipe buffers. */
export const PROBE_VOCAB_SIZE = 50_000;

/**
 * `tokenize` with the text "pid" answers the process id, "threads" UV_THREADPOOL_SIZE, "secrets" how many of the keys
 * it finds in its environment, "many" a thousand events and
 * then the answer, "throw" dies; `load` answers token tables; `stop` emits one last event before it ends.
 */
export const createProbeEngine: EngineFactory = (emit) => {
  let stop: () => void = () => undefined;
  const stopped = new Promise<void>((resolve) => (stop = resolve));
  return {
    stopped,
    receive(command) {
      if (command.type === "load") return emit({ type: "loaded", facts: probeFacts() });
      if (command.type === "stop") {
        emit({ type: "drained", call: 99 });
        return stop();
      }
      if (command.type === "tokenize") answer(command, emit);
    },
  };
};

function answer(
  command: { call: number; texts: readonly (readonly object[])[] },
  emit: (event: EngineEvent) => void,
): void {
  const { call } = command;
  const part = command.texts[0]?.[0];
  const text = part !== undefined && "text" in part ? part.text : "";
  if (text === "pid") return emit({ type: "tokenized", call, tokens: [[process.pid]] });
  if (text === "threads") {
    return emit({ type: "tokenized", call, tokens: [[Number(process.env["UV_THREADPOOL_SIZE"])]] });
  }
  if (text === "secrets") {
    const found = ["WEFT_API_KEYS", "WEFT_ADMIN_KEYS", "HF_TOKEN"].filter((name) => name in process.env);
    return emit({ type: "tokenized", call, tokens: [[found.length]] });
  }
  if (text === "arenas") {
    return emit({ type: "tokenized", call, tokens: [[Number(process.env["MALLOC_ARENA_MAX"])]] });
  }
  if (text === "throw") throw new Error("engine broke");
  if (text === "loop") for (;;);
  const announced = text === "many" ? 1000 : 0;
  for (let ratio = 0; ratio < announced; ratio++) emit({ type: "load_progress", ratio });
  const shared = { tokens: [1, 2] };
  const event: EngineEvent = { type: "tokenized", call, tokens: [shared.tokens] };
  emit(event);
  // A receiver must not see what the engine does to its own data afterwards.
  shared.tokens.push(3);
  setImmediate(() => shared.tokens.push(4));
}

function probeFacts(): Extract<EngineEvent, { type: "loaded" }>["facts"] {
  const sizes = {
    slots: 1,
    contextTokens: 0,
    prefillChunk: 1,
    batchTokens: 1,
    itlTargetMs: 1,
    adapters: [],
    threads: 1,
  };
  return {
    ...fakeFacts(sizes),
    name: "probe",
    loadMs: 0,
    chatTemplate: undefined,
    vocabSize: PROBE_VOCAB_SIZE,
    tokenBytes: Uint8Array.from({ length: PROBE_VOCAB_SIZE }, (_, index) => index % 256),
    tokenOffsets: Uint32Array.from({ length: PROBE_VOCAB_SIZE + 1 }, (_, index) => index),
    tokenAttributes: new Uint16Array(PROBE_VOCAB_SIZE).fill(4),
    endTokens: [0],
    eosToken: 0,
    embeddings: undefined,
    ranking: false,
  };
}
