/** Runs a tool call parser over chunks, for tests. */
import type { HeldCalls, ParsedTool, ToolFormat, ToolPiece } from "../../../models/tools/tool-format.ts";

export interface ReadCalls {
  readonly content: string;
  readonly calls: readonly { readonly name: string; readonly arguments: string }[];
  /** What came in which order: "content", "call 0", "arguments 0", without repetitions. */
  readonly order: readonly string[];
}

export function read(
  format: ToolFormat,
  chunks: readonly string[],
  options: {
    readonly complete?: boolean;
    readonly tools?: readonly ParsedTool[];
    readonly held?: HeldCalls;
  } = {},
): ReadCalls {
  const parser = format.createParser(options.tools, options.held);
  const pieces = [
    ...chunks.flatMap((chunk) => parser.push(chunk)),
    ...parser.flush(options.complete ?? true),
  ];
  return collected(pieces);
}

export function collected(pieces: readonly ToolPiece[]): ReadCalls {
  const calls: { name: string; arguments: string }[] = [];
  const order: string[] = [];
  let content = "";
  for (const piece of pieces) {
    const label = piece.kind === "content" ? "content" : `${piece.kind} ${piece.index}`;
    if (order.at(-1) !== label) order.push(label);
    if (piece.kind === "content") content += piece.text;
    else if (piece.kind === "call") calls[piece.index] = { name: piece.name, arguments: "" };
    else {
      const call = calls[piece.index];
      if (call === undefined) throw new Error("Arguments of a call that has not begun.");
      call.arguments += piece.text;
    }
  }
  return { content, calls, order };
}

/** Chunks of one character each. */
export function characters(text: string): string[] {
  return Array.from(text);
}
