import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TokenAttribute } from "../../../engine/protocol.ts";
import { Detokenizer } from "../../../models/text/detokenizer.ts";
import { StopMatcher } from "../../../models/text/stop-matcher.ts";
import { ReasoningSplitter } from "../../../models/text/reasoning-splitter.ts";
import { TextPipeline } from "../../../models/text/text-pipeline.ts";
import type { TextDelta, TextPipelineOptions } from "../../../models/text/text-pipeline.ts";
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
  const deltas: TextDelta[] = [];
  for (const tokens of pushes) {
    deltas.push(...pipeline.push(tokens, undefined));
    if (pipeline.stopString !== undefined) break;
  }
  deltas.push(...pipeline.flush());
  const of = (kind: string): TextDelta[] => deltas.filter((delta) => delta.kind === kind);
  const text = (kind: string): string =>
    of(kind)
      .map((delta) => delta.text)
      .join("");
  const tokens = (kind: string): number[] =>
    of(kind).flatMap((delta) => delta.tokens.map((item) => item.token));
  for (const delta of deltas) expect(delta.text).not.toBe("");
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
    expect(pipeline.flush()).toEqual([]);
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
});
