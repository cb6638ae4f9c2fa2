/** A tool format again from its key, for what it says about grammars: in another thread, which gets only texts. */
import type { CallSyntax } from "./call-syntax.ts";
import { HARMONY_KEY, harmonyFormat } from "./harmony-format.ts";
import { formatOf } from "./syntax-format.ts";
import type { ShownTools, ToolFormat } from "./tool-format.ts";

/** What a template shows makes no difference to a grammar. */
const SHOWS: ShownTools = {
  definitions: true,
  calls: true,
  severalCalls: true,
  namesInIds: false,
  results: true,
};

export function formatOfKey(key: string): ToolFormat {
  return key === HARMONY_KEY ? harmonyFormat(SHOWS) : formatOf(JSON.parse(key) as CallSyntax, SHOWS);
}
