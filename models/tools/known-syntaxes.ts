/** Syntaxes of models whose templates describe tools but leave out the calls, and the one for all others. */
import type { CallSyntax, ObjectField } from "./call-syntax.ts";

const objectOf = (name: string, given: string): readonly ObjectField[] => [
  { key: name, holds: "name" },
  { key: given, holds: "arguments" },
];

const HERMES: CallSyntax = {
  family: "hermes",
  before: "<tool_call>\n",
  between: "\n</tool_call>\n<tool_call>\n",
  after: "\n</tool_call>",
  body: { kind: "object", fields: objectOf("name", "arguments") },
};

const PYTHONIC = {
  family: "pythonic",
  body: { kind: "literal", open: "(", assign: "=", quote: '"', separator: ", ", close: ")" },
} as const;

/** What we ask of a model whose template knows nothing of tools. */
export const GENERIC_SYNTAX: CallSyntax = { ...HERMES, family: "generic" };

/** By a text that occurs in the template; the more telling ones first. */
const KNOWN: readonly { readonly hint: string; readonly syntax: CallSyntax }[] = [
  {
    hint: "<|/tool_call|>",
    syntax: { ...HERMES, family: "phi4", before: "<|tool_call|>[", between: ", ", after: "]<|/tool_call|>" },
  },
  // Phi-4 models mark the tools like this and answer with the same kind of mark.
  {
    hint: "<|/tool|>",
    syntax: { ...HERMES, family: "phi4", before: "<|tool_call|>[", between: ", ", after: "]<|/tool_call|>" },
  },
  {
    hint: "functools[",
    syntax: { ...HERMES, family: "phi4", before: "functools[", between: ", ", after: "]" },
  },
  {
    hint: "<|tool_call|>",
    syntax: { ...HERMES, family: "granite", before: "<|tool_call|>[", between: ", ", after: "]" },
  },
  { hint: "<tool_call>", syntax: HERMES },
  {
    hint: "[TOOL_CALLS]",
    syntax: { ...HERMES, family: "mistral", before: "[TOOL_CALLS][", between: ", ", after: "]" },
  },
  {
    hint: "```tool_code",
    syntax: { ...PYTHONIC, before: "```tool_code\n", between: "\n", after: "\n```" },
  },
  {
    hint: "<|tool_list_start|>",
    syntax: { ...PYTHONIC, before: "<|tool_call_start|>[", between: ", ", after: "]<|tool_call_end|>" },
  },
  {
    hint: '"parameters": dictionary',
    syntax: {
      family: "llama3-json",
      before: "",
      between: undefined,
      after: "",
      body: { kind: "object", fields: objectOf("name", "parameters") },
    },
  },
];

export function knownSyntax(text: string): CallSyntax | undefined {
  return KNOWN.find(({ hint }) => text.includes(hint))?.syntax;
}
