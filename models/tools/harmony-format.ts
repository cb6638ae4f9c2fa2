/**
 * Harmony: an output is a run of messages, `<|channel|>final<|message|>text<|end|><|start|>assistant…`; one that
 * names a function as its recipient is a call.
 */
import { literal, oneOf, optional, sequence } from "../grammar/grammar.ts";
import type { Expr, GrammarBuilder } from "../grammar/grammar.ts";
import { findMark, openLength } from "../text/marks.ts";
import { PieceSink } from "./content-sink.ts";
import { HeldCallParser } from "./cut-calls.ts";
import { copyNested } from "./read-json.ts";
import { TextReader } from "./text-reader.ts";
import type { Step } from "./text-reader.ts";
import type { CallSyntax } from "./call-syntax.ts";
import type {
  CallableTool,
  PrintedCall,
  ShownTools,
  ToolCallParser,
  ToolFormat,
  ToolPiece,
} from "./tool-format.ts";

/** Of the one syntax that is no data. */
export const HARMONY_KEY = "harmony";

const START = "<|start|>";
const CHANNEL = "<|channel|>";
const CONSTRAIN = "<|constrain|>";
const MESSAGE = "<|message|>";
const ENDS = ["<|end|>", "<|call|>", "<|return|>"];
/** What ends a message, the beginning of the next one too. */
const BOUNDARIES = [...ENDS, START].map((text) => ({ text }));
const RECIPIENT = " to=functions.";

/** The channel of thoughts comes before it, in a message of its own, so that this one may have to begin. */
const ANSWER_HEADER = sequence(
  optional(literal(`${START}assistant`)),
  literal(`${CHANNEL}final`),
  optional(literal(` ${CONSTRAIN}json`)),
  literal(MESSAGE),
);

/** Longer ones are text. */
const HEADER_LIMIT = 512;

const HEADER_CHARACTER = /[\w .=/-]/;

/** Whether a derived syntax is Harmony's. */
export function isHarmony({ before, body }: CallSyntax): boolean {
  if (body.kind !== "named" || before.trim() !== RECIPIENT.trim()) return false;
  const between = body.afterName.join("");
  return between.includes(CHANNEL) && between.endsWith(MESSAGE);
}

export function harmonyFormat(shows: ShownTools): ToolFormat {
  return {
    name: "harmony",
    key: HARMONY_KEY,
    triggersFor: () => [RECIPIENT],
    markup: [START, CHANNEL, CONSTRAIN, MESSAGE, ...ENDS],
    answerHeader: ANSWER_HEADER,
    shows,
    callsGrammar: callGrammar,
    createParser: (_tools, held) => {
      const parser = new HarmonyParser();
      return held === undefined ? parser : new HeldCallParser(parser, held);
    },
    print,
  };
}

function print(calls: readonly PrintedCall[]): string {
  const texts = calls.map((call) => {
    const given = call.arguments.trim() === "" ? "{}" : call.arguments;
    return `${RECIPIENT}${call.name}${CHANNEL}commentary json${MESSAGE}${given}`;
  });
  return texts.join(`${ENDS[1]}${START}assistant`);
}

/**
 * One call: the token after it ends the output. A message may have to begin first, and the channel stands before the
 * recipient or behind it.
 */
function callGrammar(builder: GrammarBuilder, tools: readonly CallableTool[]): Expr {
  const channel = optional(literal(`${CHANNEL}commentary`));
  const type = optional(sequence(literal(" "), optional(literal(CONSTRAIN)), literal("json")));
  const header = builder.rule("header", sequence(channel, type));
  return sequence(
    optional(literal(`${START}assistant`)),
    channel,
    literal(RECIPIENT),
    oneOf(...tools.map((tool) => sequence(literal(tool.name), header, literal(MESSAGE), tool.arguments()))),
  );
}

/** Headers are dropped; a text without one is content, and so is a message to others than functions. */
class HarmonyParser implements ToolCallParser {
  readonly #reader = new TextReader();
  readonly #sink = new PieceSink();
  readonly #run: Step<void>;
  #complete = true;

  constructor() {
    this.#run = this.#parse();
  }

  push(text: string): ToolPiece[] {
    this.#reader.push(text);
    this.#run.next();
    return this.#sink.take();
  }

  flush(complete: boolean): ToolPiece[] {
    this.#complete = complete;
    this.#reader.end();
    this.#run.next();
    return this.#sink.finish();
  }

  *#parse(): Step<void> {
    const reader = this.#reader;
    for (;;) {
      const from = reader.mark();
      const header = yield* this.#header();
      const name = header === undefined ? undefined : /\bto=functions\.([^\s<]+)/.exec(header)?.[1];
      if (header === undefined) yield* this.#asText(from);
      else if (name === undefined) yield* this.#text();
      else yield* this.#call(name, from);
      if ((yield* reader.peek()) === "") return;
    }
  }

  /**
   * What stands before `<|message|>`, which is read too: tags, words and a recipient. Undefined where the text goes
   * on in no way that headers do.
   */
  *#header(): Step<string | undefined> {
    const reader = this.#reader;
    const first = yield* reader.skipSpace();
    const from = reader.position;
    if (first === "t" && (yield* reader.match("to=")) !== "yes") return undefined;
    if (first !== "<" && first !== "t") return undefined;
    while (reader.position - from < HEADER_LIMIT) {
      const next = yield* reader.peek();
      if (next === "<") {
        const tag = yield* this.#tag();
        if (tag === MESSAGE) return reader.since(from);
        if (![START, CHANNEL, CONSTRAIN].includes(tag)) break;
      } else if (next === "" || !HEADER_CHARACTER.test(next)) break;
      else reader.take(1);
    }
    // Markup at which an output was cut off means nothing.
    const cut = reader.ended && !this.#complete && (yield* reader.peek()) === "";
    return cut ? "" : undefined;
  }

  /** One tag; what there is of it at the end of the output. */
  *#tag(): Step<string> {
    const reader = this.#reader;
    const from = reader.position;
    for (let next = "<"; next !== "" && next !== ">"; next = yield* reader.peek()) {
      reader.take(1);
      if (reader.position - from > HEADER_LIMIT) break;
    }
    if ((yield* reader.peek()) === ">") reader.take(1);
    return reader.since(from);
  }

  *#call(name: string, from: number): Step<void> {
    const reader = this.#reader;
    const first = yield* reader.skipSpace();
    const ends = first === "" || first === "<";
    if (first !== "{" && !ends) {
      yield* this.#asText(from);
      return;
    }
    this.#sink.call(name);
    if (first === "{") {
      yield* copyNested(reader, (text) => {
        this.#sink.arguments(text);
        reader.mark();
      });
    } else if (this.#complete || first !== "") this.#sink.arguments("{}");
    this.#sink.endCall();
    yield* this.#text();
  }

  /** All of a message that is none, its header too. */
  *#asText(from: number): Step<void> {
    this.#reader.rewind(from);
    // The text goes on behind the tag that would begin a message.
    if (this.#reader.rest().startsWith(START)) this.#sink.content(this.#reader.take(START.length));
    yield* this.#text();
  }

  /** Content up to the end of the message, which is dropped. */
  *#text(): Step<void> {
    const reader = this.#reader;
    for (;;) {
      const rest = reader.rest();
      const found = findMark(rest, BOUNDARIES);
      const held = reader.ended ? 0 : openLength(rest, BOUNDARIES);
      const certain = found?.at ?? rest.length - held;
      this.#sink.content(reader.take(certain));
      reader.mark();
      if (found !== undefined) {
        if (found.mark.text !== START) reader.take(found.mark.text.length);
        return;
      }
      if (reader.ended) return;
      yield;
    }
  }
}
