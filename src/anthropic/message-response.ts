/** An answer of Anthropic's Messages API: its whole body, and its stream of blocks. */
import type { FinishedAnswer } from "../choices.ts";
import type { FinishEvent, GenerationEvent, GenerationUsage } from "../generation-events.ts";
import { isObject } from "../http/json.ts";
import { eventFrame } from "../http/sse.ts";
import type { EventWriter } from "../openai/answer.ts";

export interface MessageAnswer {
  readonly id: string;
  readonly model: string;
  /** Whether thinking is delivered. */
  readonly showThinking: boolean;
}

type Block =
  | { readonly type: "thinking"; thinking: string; readonly signature: string }
  | { readonly type: "text"; text: string }
  | { readonly type: "tool_use"; readonly id: string; readonly name: string; input: unknown };

/** What an event adds to the answer; undefined for one that shows nothing. */
interface Piece {
  /** Its block as it begins. */
  readonly block: Block;
  /** Whether a block begins with it even if one of the same kind is open. */
  readonly begins: boolean;
  readonly text: string;
}

/** Nobody has to be able to tell whether thinking was this server's. */
const SIGNATURE = "";

export function messageBody({ choices, usage }: FinishedAnswer, answer: MessageAnswer): object {
  const [choice] = choices;
  return {
    ...headJson(answer),
    content: choice === undefined ? [] : blocksOf(choice.events, answer),
    ...stopJson(choice?.finish),
    usage: usageJson(usage),
  };
}

/** The first event brings the head: before it the prompt is still being computed. */
export function messageEventWriter(answer: MessageAnswer): EventWriter {
  let count = 0;
  let open: Block | undefined;
  let hasBegun = false;
  const close = (): string => {
    if (open === undefined) return "";
    const index = count - 1;
    const signed = open.type === "thinking" ? signatureFrame(index) : "";
    open = undefined;
    return signed + eventFrame({ type: "content_block_stop", index });
  };
  return ({ event, usage }) => {
    let frames = "";
    if (!hasBegun) frames += startFrame(usage, answer);
    hasBegun = true;
    const piece = pieceOf(event, answer);
    if (piece !== undefined) {
      if (piece.begins || open?.type !== piece.block.type) {
        frames += close();
        open = piece.block;
        frames += eventFrame({ type: "content_block_start", index: count, content_block: open });
        count += 1;
      }
      if (piece.text !== "") frames += deltaFrame(count - 1, open.type, piece.text);
    }
    if (event.kind !== "finish") return frames;
    const ended = { type: "message_delta", delta: stopJson(event), usage: usageJson(usage) };
    return frames + close() + eventFrame(ended) + eventFrame({ type: "message_stop" });
  };
}

function pieceOf(event: GenerationEvent, { showThinking }: MessageAnswer): Piece | undefined {
  switch (event.kind) {
    case "content":
      return event.text === ""
        ? undefined
        : { block: { type: "text", text: "" }, begins: false, text: event.text };
    case "reasoning":
      return event.text === "" || !showThinking
        ? undefined
        : {
            block: { type: "thinking", thinking: "", signature: SIGNATURE },
            begins: false,
            text: event.text,
          };
    case "tool_call":
      return {
        block: { type: "tool_use", id: event.id, name: event.name, input: {} },
        begins: true,
        text: "",
      };
    case "tool_arguments":
      // Its call has begun.
      return { block: { type: "tool_use", id: "", name: "", input: {} }, begins: false, text: event.text };
    case "prefill":
    case "finish":
      return undefined;
  }
}

function blocksOf(events: readonly GenerationEvent[], answer: MessageAnswer): Block[] {
  const blocks: { readonly block: Block; text: string }[] = [];
  for (const event of events) {
    const piece = pieceOf(event, answer);
    if (piece === undefined) continue;
    const last = blocks.at(-1);
    if (last !== undefined && !piece.begins && last.block.type === piece.block.type) last.text += piece.text;
    else blocks.push({ block: piece.block, text: piece.text });
  }
  return blocks.map(({ block, text }) => filled(block, text));
}

function filled(block: Block, text: string): Block {
  switch (block.type) {
    case "text":
      return { ...block, text };
    case "thinking":
      return { ...block, thinking: text };
    case "tool_use":
      return { ...block, input: parsedInput(text) };
  }
}

/** Arguments that a limit cut off are no object, and clients rely on one. */
function parsedInput(text: string): object {
  try {
    const parsed: unknown = JSON.parse(text);
    return isObject(parsed) ? parsed : {};
  } catch {
    return {};
  }
}

function deltaFrame(index: number, type: Block["type"], text: string): string {
  const delta =
    type === "text"
      ? { type: "text_delta", text }
      : type === "thinking"
        ? { type: "thinking_delta", thinking: text }
        : { type: "input_json_delta", partial_json: text };
  return eventFrame({ type: "content_block_delta", index, delta });
}

function signatureFrame(index: number): string {
  const delta = { type: "signature_delta", signature: SIGNATURE };
  return eventFrame({ type: "content_block_delta", index, delta });
}

function startFrame(usage: GenerationUsage, answer: MessageAnswer): string {
  const message = {
    ...headJson(answer),
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { ...usageJson(usage), output_tokens: 0 },
  };
  return eventFrame({ type: "message_start", message });
}

function headJson({ id, model }: MessageAnswer): object {
  return { id, type: "message", role: "assistant", model };
}

function stopJson(finish: FinishEvent | undefined): object {
  const word = finish?.reason === "stop" ? finish.stopReason : undefined;
  if (typeof word === "string") return { stop_reason: "stop_sequence", stop_sequence: word };
  const reasons = { stop: "end_turn", length: "max_tokens", tool_calls: "tool_use" } as const;
  return { stop_reason: reasons[finish?.reason ?? "stop"], stop_sequence: null };
}

/** Cached tokens are not counted as input. */
function usageJson({ promptTokens, cachedTokens, completionTokens }: GenerationUsage) {
  return {
    input_tokens: promptTokens - cachedTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cachedTokens,
    output_tokens: completionTokens,
    service_tier: "standard",
  };
}
