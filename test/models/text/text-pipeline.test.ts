import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TokenAttribute } from "../../../engine/token-attribute.ts";
import { Detokenizer } from "../../../models/text/detokenizer.ts";
import { StopMatcher } from "../../../models/text/stop-matcher.ts";
import { ReasoningSplitter } from "../../../models/text/reasoning-splitter.ts";
import { TextPipeline } from "../../../models/text/text-pipeline.ts";
import type {
  OutputDelta,
  OutputParser,
  ParsedPiece,
  TextDelta,
  TextPipelineOptions,
} from "../../../models/text/text-pipeline.ts";
import { controlToken, cutAt, endToken, tableOf, textToken } from "../token-tables.ts";

const bytesToken = (...bytes: number[]) => ({
  bytes: Uint8Array.from(bytes),
  attributes: TokenAttribute.normal,
});

const TOKENS = [
  textToken("a"),
  textToken("b"),
  textToken("ab"),
  textToken("\n"),
  textToken("<think>"),
  textToken("</think>"),
  textToken("</"),
  textToken("b</think>\n\na"),
  bytesToken(0xf0, 0x9f),
  bytesToken(0x98, 0x80),
  bytesToken(0x98, 0x80, 0x61),
  bytesToken(0xc3),
  controlToken("<|x|>"),
  endToken("<|end|>"),
];
const table = tableOf(TOKENS);
const MARKERS = { start: "<think>", end: "</think>" };

const plain: TextPipelineOptions = {
  table,
  stops: [],
  includeStop: false,
  skipControl: true,
  minTokens: 0,
  reasoning: undefined,
  calls: undefined,
};

interface Output {
  readonly content: string;
  readonly reasoning: string;
  readonly contentTokens: readonly number[];
  readonly reasoningTokens: readonly number[];
  readonly counted: number;
  readonly stop: string | undefined;
}

function run(pushes: readonly (readonly number[])[], options: TextPipelineOptions): Output {
  const pipeline = new TextPipeline(options);
  const deltas: OutputDelta[] = [];
  for (const tokens of pushes) {
    deltas.push(...pipeline.push(tokens, undefined));
    if (pipeline.stopString !== undefined) break;
  }
  deltas.push(...pipeline.flush(true));
  const of = (kind: TextDelta["kind"]): TextDelta[] =>
    deltas.flatMap((delta) => (delta.kind === kind && "tokens" in delta ? [delta] : []));
  const text = (kind: TextDelta["kind"]): string =>
    of(kind)
      .map((delta) => delta.text)
      .join("");
  const tokens = (kind: TextDelta["kind"]): number[] =>
    of(kind).flatMap((delta) => delta.tokens.map((item) => item.token));
  for (const delta of deltas) expect(delta).not.toMatchObject({ text: "" });
  return {
    content: text("content"),
    reasoning: text("reasoning"),
    contentTokens: tokens("content"),
    reasoningTokens: tokens("reasoning"),
    counted: pipeline.reasoningTokens,
    stop: pipeline.stopString,
  };
}

/** Each stage over the whole text, one after the other. */
function oracle(tokens: readonly number[], options: TextPipelineOptions) {
  const decode = (list: readonly number[], flush: boolean): string => {
    const detokenizer = new Detokenizer(table, { skipControl: options.skipControl });
    return list.map((token) => detokenizer.push(token)).join("") + (flush ? detokenizer.flush() : "");
  };
  const whole = decode(tokens, true);
  let pieces = [{ kind: "content", text: whole, start: 0 }];
  if (options.reasoning !== undefined) {
    const splitter = new ReasoningSplitter(options.reasoning);
    pieces = [...splitter.push(whole), ...splitter.flush()];
  }
  const of = (kind: string): string =>
    pieces
      .filter((piece) => piece.kind === kind)
      .map((piece) => piece.text)
      .join("");
  const start = pieces.find((piece) => piece.kind === "content")?.start ?? 0;
  const enough = tokens.length >= options.minTokens;
  const first = enough ? decode(tokens.slice(0, options.minTokens), false).length : Infinity;
  const unsearched = Math.max(0, first - start);
  const matcher = new StopMatcher(options.stops, { include: options.includeStop });
  const content = of("content");
  const searched = matcher.push(content.slice(unsearched)) + matcher.flush();
  return {
    content: content.slice(0, unsearched) + searched,
    reasoning: of("reasoning"),
    stop: matcher.matched,
  };
}

const anyTokens = fc.array(fc.nat(TOKENS.length - 1), { maxLength: 14 });
const anyOptions = fc.record({
  table: fc.constant(table),
  stops: fc.array(fc.constantFrom("ab", "b\n", "aab", "😀", "</a", "\ufffd"), { maxLength: 3 }),
  includeStop: fc.boolean(),
  skipControl: fc.boolean(),
  minTokens: fc.constantFrom(0, 0, 0, 1, 3),
  reasoning: fc.constantFrom(undefined, { ...MARKERS, opened: false }, { ...MARKERS, opened: true }),
  calls: fc.constant(undefined),
});

describe("TextPipeline", () => {
  it("gives the same texts and token lists however the tokens arrive", () => {
    fc.assert(
      fc.property(anyTokens, anyOptions, fc.array(fc.nat(20)), (tokens, options, places) => {
        const whole = run([tokens], options);
        expect(run(cutAt(tokens, places), options)).toEqual(whole);
        expect(
          run(
            tokens.map((token) => [token]),
            options,
          ),
        ).toEqual(whole);
      }),
      { numRuns: 2000 },
    );
  });

  it("gives what its stages give for the whole text", () => {
    fc.assert(
      fc.property(anyTokens, anyOptions, (tokens, options) => {
        expect(run([tokens], options)).toMatchObject(oracle(tokens, options));
      }),
      { numRuns: 3000 },
    );
  });

  it("lists tokens whose bytes are the bytes of the content", () => {
    const safe = anyTokens.map((tokens) => tokens.filter((token) => token < 8));
    fc.assert(
      fc.property(safe, (tokens) => {
        const { content, contentTokens } = run([tokens], plain);
        expect(contentTokens).toEqual(tokens);
        const bytes = Buffer.concat(contentTokens.map((token) => table.bytes(token)));
        expect(bytes).toEqual(Buffer.from(content));
      }),
    );
  });

  it("gives a held back token to the delta that completes its character", () => {
    const pipeline = new TextPipeline(plain);
    const logprobs = [{ logprob: -1, top: [] }];
    expect(pipeline.push([8], logprobs)).toEqual([]);
    expect(pipeline.push([12], logprobs)).toEqual([]);
    expect(pipeline.push([9], [{ logprob: -2, top: [] }])).toEqual([
      {
        kind: "content",
        text: "😀",
        tokens: [
          { token: 8, logprobs: { logprob: -1, top: [] } },
          { token: 9, logprobs: { logprob: -2, top: [] } },
        ],
      },
    ]);
    expect(pipeline.push([13], undefined)).toEqual([]);
    expect(pipeline.flush(true)).toEqual([]);
  });

  it("drops the tokens that a stop string cuts", () => {
    expect(run([[1, 0, 2, 3, 0]], { ...plain, stops: ["b\n"] })).toMatchObject({
      content: "baa",
      contentTokens: [1, 0],
      stop: "b\n",
    });
    expect(run([[1, 3, 0]], { ...plain, stops: ["b"], includeStop: true })).toMatchObject({
      content: "b",
      contentTokens: [1],
      stop: "b",
    });
  });

  it("looks for stop strings in content, not in reasoning, and counts the reasoning with its markers", () => {
    const reasoning = { ...MARKERS, opened: false };
    expect(run([[4, 3, 0, 1, 3, 5, 3, 3, 0, 1]], { ...plain, stops: ["b"], reasoning })).toEqual({
      content: "a",
      reasoning: "ab",
      contentTokens: [0],
      reasoningTokens: [0, 1],
      counted: 8,
      stop: "b",
    });
  });

  it("counts every token of reasoning that never ends", () => {
    const reasoning = { ...MARKERS, opened: true };
    expect(run([[0, 3, 6, 13]], { ...plain, reasoning })).toMatchObject({
      content: "",
      reasoning: "a\n</",
      counted: 3,
    });
  });

  it("knows whether it is inside the reasoning", () => {
    const thinkingAfter = (opened: boolean, tokens: readonly number[]): boolean => {
      const pipeline = new TextPipeline({ ...plain, reasoning: { ...MARKERS, opened } });
      pipeline.push(tokens, undefined);
      return pipeline.thinking;
    };
    expect([[], [4], [4, 0], [4, 0, 5], [0]].map((tokens) => thinkingAfter(false, tokens))).toEqual([
      false,
      true,
      true,
      false,
      false,
    ]);
    expect([[], [0], [0, 5]].map((tokens) => thinkingAfter(true, tokens))).toEqual([true, true, false]);
  });

  it("sees markers that are control tokens although it hides control tokens", () => {
    const special = tableOf([controlToken("<think>"), controlToken("</think>"), textToken("a")]);
    const reasoning = { ...MARKERS, opened: false };
    expect(run([[0, 2, 1, 2]], { ...plain, table: special, reasoning })).toMatchObject({
      content: "a",
      reasoning: "a",
      counted: 3,
    });
  });

  it("does not search the text of the first tokens for stop strings", () => {
    expect(run([[1, 1, 0, 1]], { ...plain, stops: ["b"], minTokens: 2 })).toMatchObject({
      content: "bba",
      stop: "b",
    });
  });

  describe("with tool calls", () => {
    // "[" begins a call, ";" parts name and arguments, "]" ends it.
    const words = ["a", "b", " ", "[", "f", ";", "{}", "]", "x[f;", "<|call|>"];
    const CALL = words.length - 1;
    const callTable = tableOf([...words.slice(0, CALL).map(textToken), controlToken("<|call|>")]);
    const id = (word: string): number => words.indexOf(word);
    const options = (stops: readonly string[] = []): TextPipelineOptions => ({
      ...plain,
      table: callTable,
      stops,
      calls: { parser: new BracketParser(), markers: ["<|call|>"] },
    });
    const show = (deltas: readonly OutputDelta[]): unknown[] =>
      deltas.map((delta) =>
        "tokens" in delta
          ? [delta.kind, delta.text, delta.tokens.map(({ token }) => words[token])]
          : Object.values(delta),
      );
    const play = (tokens: readonly number[], stops?: readonly string[]) => {
      const pipeline = new TextPipeline(options(stops));
      const deltas = tokens.flatMap((token) => pipeline.push([token], undefined));
      return { deltas: show([...deltas, ...pipeline.flush(true)]), stop: pipeline.stopString };
    };

    it("parts calls from content, and lists the tokens of the content alone", () => {
      const tokens = ["a", " ", "x[f;", "{}", "]", "b", "[", "f", ";", "]", "a"].map(id);
      expect(play(tokens).deltas).toEqual([
        ["content", "a", ["a"]],
        ["content", " ", [" "]],
        // The token that begins the call is not wholly content.
        ["content", "x", []],
        ["tool_call", 0, "f"],
        ["tool_arguments", 0, "{}"],
        ["content", "b", ["b"]],
        ["tool_call", 1, "f"],
        ["content", "a", ["a"]],
      ]);
    });

    it("gives back as content what proves to be no call", () => {
      expect(play(["[", "a", "b"].map(id)).deltas).toEqual([["content", "[ab", ["[", "a", "b"]]]);
    });

    it("looks for stop strings before and after calls, never inside or across one", () => {
      expect(play(["a", "[", "f", ";", "{}", "]", "b", "a"].map(id), ["{}", "ab", "f"])).toEqual({
        deltas: [
          ["content", "a", ["a"]],
          ["tool_call", 0, "f"],
          ["tool_arguments", 0, "{}"],
          ["content", "b", ["b"]],
          ["content", "a", ["a"]],
        ],
        stop: undefined,
      });
      expect(play(["[", "f", ";", "]", "b", "a", "b"].map(id), ["ab"])).toEqual({
        deltas: [
          ["tool_call", 0, "f"],
          ["content", "b", ["b"]],
        ],
        stop: "ab",
      });
    });

    it("shows the parser the markers that are control tokens", () => {
      expect(play([CALL, id("a")]).deltas).toEqual([
        ["content", "<|call|>", ["<|call|>"]],
        ["content", "a", ["a"]],
      ]);
    });
  });
});

/** A call is `[name;arguments]`; what is in brackets without a semicolon is none. */
class BracketParser implements OutputParser {
  #held = "";
  #inside = false;
  #calls = 0;

  push(text: string): ParsedPiece[] {
    return Array.from(text).flatMap((character) => this.#read(character));
  }

  flush(): ParsedPiece[] {
    return this.#held === "" ? [] : [{ kind: "content", text: this.#held }];
  }

  #read(character: string): ParsedPiece[] {
    if (this.#inside) {
      if (character === "]") this.#inside = false;
      return character === "]" ? [] : [{ kind: "arguments", index: this.#calls - 1, text: character }];
    }
    if (this.#held === "" && character !== "[") return [{ kind: "content", text: character }];
    if (character !== ";") {
      this.#held += character;
      return [];
    }
    const name = this.#held.slice(1);
    this.#held = "";
    this.#inside = true;
    return [{ kind: "call", index: this.#calls++, name }];
  }
}
