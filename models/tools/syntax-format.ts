/** A tool format made of the data of its syntax. */
import { SyntaxParser, callStarts, isBare } from "./call-parser.ts";
import { markupOf, printCalls } from "./call-syntax.ts";
import type { CallSyntax } from "./call-syntax.ts";
import { callsGrammar } from "./calls-grammar.ts";
import { HeldCallParser } from "./cut-calls.ts";
import type { ShownTools, ToolFormat } from "./tool-format.ts";

export function formatOf(syntax: CallSyntax, shows: ShownTools): ToolFormat {
  return {
    name: syntax.family,
    key: JSON.stringify(syntax),
    triggersFor: (names) => triggersOf(syntax, names),
    markup: [...markupOf(syntax), ...callStarts(syntax).map((start) => start.text)],
    answerHeader: undefined,
    shows,
    callsGrammar: (builder, tools, options) => callsGrammar(builder, syntax, tools, options),
    createParser: (tools = [], held) => {
      const parser = new SyntaxParser(syntax, tools, held !== undefined);
      return held === undefined ? parser : new HeldCallParser(parser, held);
    },
    print: (calls) => printCalls(syntax, calls),
  };
}

/** Without markup of its own a call begins where the name of a tool stands. */
function triggersOf(syntax: CallSyntax, names: readonly string[]): string[] {
  if (!isBare(syntax)) return callStarts(syntax).map((start) => start.text);
  const opening = syntax.before.trim();
  const { body } = syntax;
  return names.flatMap((name) => {
    if (body.kind === "literal") return [opening + name + body.open];
    if (body.kind !== "object") return [opening + name];
    const key = JSON.stringify(body.fields[0]?.key ?? "name");
    if (body.fields[0]?.holds !== "name") return [`${opening}{${key}`];
    return [" ", ""].map((space) => `${opening}{${key}:${space}${JSON.stringify(name)}`);
  });
}
