/** Reads a chat stream as a widespread benchmark does: piece by piece, each stripped, into one buffer. */
import type { ChatChunk } from "./harness.ts";

export interface BenchReading {
  readonly text: string;
  /** Chunks with choices: what the benchmark takes times of. */
  readonly chunks: number;
  readonly completionTokens: number | undefined;
}

/** @param pieces As they arrive: one write each. */
export function readAsVllmBench(pieces: readonly string[]): BenchReading {
  let buffer = "";
  let text = "";
  let chunks = 0;
  let completionTokens: number | undefined;
  const take = (message: string): void => {
    // It knows this prefix alone: with anything else in front, the message is lost.
    if (!message.startsWith("data: ")) return;
    const data = message.slice("data: ".length);
    if (data === "[DONE]") return;
    const { choices, usage } = JSON.parse(data) as ChatChunk;
    if (choices.length > 0) {
      chunks++;
      text += choices[0]?.delta.content ?? "";
    } else completionTokens = usage?.completion_tokens ?? completionTokens;
  };
  for (const piece of pieces) {
    const stripped = piece.trim();
    if (stripped === "") continue;
    buffer += stripped;
    const messages = buffer.split("\n\n");
    const last = messages.pop() ?? "";
    for (const message of messages) take(message);
    buffer = last;
    if (!isWhole(last)) continue;
    take(last);
    buffer = "";
  }
  return { text, chunks, completionTokens };
}

function isWhole(message: string): boolean {
  if (!message.startsWith("data: ")) return false;
  const data = message.slice("data: ".length);
  if (data === "[DONE]") return true;
  try {
    JSON.parse(data);
    return true;
  } catch {
    return false;
  }
}
