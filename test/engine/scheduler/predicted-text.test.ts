/** Outputs beside their prediction, by text: other tokens, other words, and what is guessed behind them. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DraftIndex } from "../../../engine/scheduler/draft-index.ts";
import { PredictedText } from "../../../engine/scheduler/predicted-text.ts";
import { textOf } from "../../../engine/token-texts.ts";
import type { TokenTexts } from "../../../engine/token-texts.ts";

/** Token 0 has no text, as control tokens have none. */
const WORDS = ["", "a", "b", " ", "ab", "ba", " a", " b", "aab", " ab", "bab", "é", "a é", " baab", " abbba"];
/** Both halves of "é". */
const HALVES = [Uint8Array.of(0xc3), Uint8Array.of(0xa9)];
const TEXTS = texts([...WORDS.map((word) => new TextEncoder().encode(word)), ...HALVES]);
const TEXTS_OF_X = ["xyyyz", "yyy", "z"].map((word) => new TextEncoder().encode(word));
const TOKENS = WORDS.length + HALVES.length;

function texts(pieces: readonly Uint8Array[]): TokenTexts {
  const tokenOffsets = new Uint32Array(pieces.length + 1);
  pieces.forEach((piece, token) => (tokenOffsets[token + 1] = (tokenOffsets[token] ?? 0) + piece.length));
  return { tokenOffsets, tokenBytes: Uint8Array.from(pieces.flatMap((piece) => [...piece])) };
}

function textOfAll(tokens: readonly number[]): string {
  return Buffer.concat(tokens.map((token) => textOf(TEXTS, token))).toString("latin1");
}

function tokenOf(word: string): number {
  return WORDS.indexOf(word);
}

/** The same text in other tokens, chosen by `choose` among those that fit. */
function retold(text: string, choose: (most: number) => number): number[] {
  const tokens: number[] = [];
  for (let at = 0; at < text.length;) {
    const fitting = Array.from({ length: TOKENS }, (_, i) => i).filter((i) => {
      const piece = textOfAll([i]);
      return piece.length > 0 && text.startsWith(piece, at);
    });
    const chosen = fitting[choose(fitting.length - 1)] ?? 0;
    tokens.push(chosen);
    at += textOfAll([chosen]).length;
  }
  return tokens;
}

const predictions = fc.array(fc.integer({ min: 1, max: TOKENS - 1 }), { minLength: 1, maxLength: 60 });

describe("guesses from a prediction", () => {
  test("are its text, in whatever tokens the output has told it so far", () => {
    fc.assert(
      fc.property(predictions, fc.infiniteStream(fc.nat(1000)), fc.nat(8), (predicted, chances, most) => {
        const text = textOfAll(predicted);
        const output = retold(text, (last) => (chances.next().value as number) % (last + 1));
        const index = new DraftIndex(predicted, [tokenOf("a")], [], TEXTS);
        let told = "";
        for (const next of output) {
          const guess = index.propose(most);
          expect(guess.length).toBeLessThanOrEqual(most);
          expect(text.slice(told.length).startsWith(textOfAll(guess))).toBe(true);
          // Every text can go on token by token here, so that there is always a guess.
          expect(index.guesses && index.followsPrediction).toBe(true);
          index.push(next);
          told += textOfAll([next]);
        }
      }),
    );
  });

  test("behind a word in other tokens are the longest ones that its rest can be told in", () => {
    const predicted = [tokenOf("a"), tokenOf("ba"), tokenOf("b"), tokenOf(" b")];
    const index = new DraftIndex(predicted, [], [], TEXTS);
    index.push(tokenOf("ab"));
    expect(index.propose(9)).toEqual([tokenOf("ab"), tokenOf(" b")]);
    index.push(tokenOf("a"));
    expect(index.propose(9)).toEqual([tokenOf("b"), tokenOf(" b")]);
    index.push(tokenOf("b"));
    expect(index.propose(9)).toEqual([tokenOf(" b")]);
  });

  test("go on within a character that the output tells by halves", () => {
    const half = WORDS.length;
    const index = new DraftIndex([tokenOf("é"), tokenOf(" baab")], [], [], TEXTS);
    index.push(half);
    expect(index.propose(9)).toEqual([half + 1, tokenOf(" baab")]);
    index.push(half + 1);
    expect(index.propose(9)).toEqual([tokenOf(" baab")]);
  });

  test("end where the rest of the last token ends", () => {
    const index = new DraftIndex([tokenOf(" baab"), tokenOf("ab")], [], [], TEXTS);
    for (const next of [tokenOf(" baab"), tokenOf("a")]) index.push(next);
    expect(index.propose(9)).toEqual([tokenOf("b")]);
    expect(index.expectedHits(9)).toBe(index.expectedHits(1));
    index.push(tokenOf("b"));
    expect([index.guesses, index.propose(9)]).toEqual([false, []]);
  });

  test("are none behind its last word, told in one token or behind a replaced one", () => {
    const joined = new DraftIndex([tokenOf(" baab"), tokenOf("a"), tokenOf("b")], [], [], TEXTS);
    for (const next of [tokenOf(" baab"), tokenOf("ab")]) joined.push(next);
    expect(joined.propose(9)).toEqual([]);
    const replaced = new DraftIndex([tokenOf("ab"), tokenOf(" abbba"), tokenOf(" b")], [], [], TEXTS);
    for (const next of [tokenOf("é"), tokenOf(" abbba"), tokenOf(" b")]) replaced.push(next);
    expect(replaced.propose(9)).toEqual([]);
    // Nor back at the difference, where the same word is said once more.
    for (const next of [tokenOf("é"), tokenOf(" abbba")]) replaced.push(next);
    expect(replaced.followsPrediction).toBe(false);
  });

  test("are none within a token whose rest no tokens tell, and come back behind it", () => {
    const few = texts(["xyz", "x", "yz w", " w", "yz"].map((word) => new TextEncoder().encode(word)));
    const index = new DraftIndex([0, 3, 0], [], [], { ...few, tokenOffsets: few.tokenOffsets.slice(0, 5) });
    index.push(1);
    expect([index.guesses, index.propose(9)]).toEqual([true, [2, 0]]);
    const fewer = { ...few, tokenOffsets: few.tokenOffsets.slice(0, 3) };
    const lost = new DraftIndex([0, 0], [], [], fewer);
    lost.push(1);
    expect([lost.guesses, lost.propose(9)]).toEqual([false, []]);
  });

  test("come first from behind a word that was replaced, then from where the text is the same again", () => {
    const predicted = [tokenOf(" baab"), tokenOf("ab"), tokenOf(" abbba"), tokenOf(" a"), tokenOf(" b")];
    const replaced = new DraftIndex(predicted, [], [], TEXTS);
    for (const next of [tokenOf(" baab"), tokenOf("é")]) replaced.push(next);
    expect(replaced.propose(2)).toEqual([tokenOf(" abbba"), tokenOf(" a")]);
    const inserted = new DraftIndex(predicted, [], [], TEXTS);
    for (const next of [tokenOf(" baab"), tokenOf("é"), tokenOf("é"), tokenOf("ba")]) inserted.push(next);
    expect(inserted.propose(2)).toEqual([]);
    // One long word is enough.
    inserted.push(tokenOf(" abbba"));
    expect(inserted.propose(2)).toEqual([tokenOf(" a"), tokenOf(" b")]);
  });

  test("are those of a request that comes back with its output as it was", () => {
    fc.assert(
      fc.property(predictions, fc.array(fc.nat(TOKENS - 1), { maxLength: 40 }), (predicted, said) => {
        const output = [...predicted.slice(0, 8), ...said];
        const index = new DraftIndex(predicted, [1, 2], [], TEXTS);
        for (const next of output) index.push(next);
        const again = new DraftIndex(predicted, [1, 2], output, TEXTS);
        expect(again.propose(9)).toEqual(index.propose(9));
        expect(again.expectedHits(9)).toBe(index.expectedHits(9));
      }),
    );
  });

  test("stay within their number and chances whatever is said", () => {
    fc.assert(
      fc.property(predictions, fc.array(fc.nat(TOKENS - 1), { maxLength: 120 }), (predicted, output) => {
        const index = new DraftIndex(predicted, [1, 2], [], TEXTS);
        for (const next of output) {
          index.push(next);
          const guess = index.propose(9);
          expect(guess.length > 0).toBe(index.guesses);
          expect(guess.every((one) => one < TOKENS)).toBe(true);
          expect(index.expectedHits(9)).toBeLessThanOrEqual(guess.length);
          expect(index.expectedHits(9) > 0).toBe(index.guesses);
        }
      }),
    );
  });
});

describe("a predicted text", () => {
  test("knows at which byte each token begins, and the first token from a byte on", () => {
    const text = new PredictedText([tokenOf("ab"), tokenOf(""), tokenOf(" baab")], TEXTS);
    expect([0, 1, 2, 3].map((place) => text.startOf(place))).toEqual([0, 2, 2, 7]);
    expect([0, 1, 2, 3, 7].map((byte) => text.placeAt(byte))).toEqual([0, 1, 1, 3, 3]);
  });

  test("compares what was written last with what stands before a token, as far back as either goes", () => {
    const text = new PredictedText([tokenOf(" baab"), tokenOf(" abbba"), tokenOf("ab")], TEXTS);
    expect(text.sameBefore(2)).toBe(0);
    text.wrote(tokenOf("a"));
    text.wrote(tokenOf(" abbba"));
    expect([1, 2, 3].map((place) => text.sameBefore(place))).toEqual([0, 6, 0]);
    for (const next of [tokenOf(" baab"), tokenOf(" abbba")]) text.wrote(next);
    expect(text.sameBefore(2)).toBe(11);
  });

  test("is one of numbers where nobody knows texts", () => {
    const text = new PredictedText([7, 8], undefined);
    expect([text.behind(0, 7), text.behind(0, 8), text.behind(4, 8), text.behind(8, 8)]).toEqual([
      4,
      undefined,
      8,
      undefined,
    ]);
    expect(text.restFrom(1)).toEqual({ tokens: [], place: 1 });
  });

  test("looks for the rest of a token without a look at the whole vocabulary", () => {
    const pieces = Array.from({ length: 5000 }, (_, i) => new TextEncoder().encode(`x${i}`));
    const many = texts([...pieces, ...TEXTS_OF_X]);
    let reads = 0;
    const tokenOffsets = new Proxy(many.tokenOffsets, {
      get: (all, key) => (reads++, Reflect.get(all, key)),
    });
    const text = new PredictedText([5000, 5000], { ...many, tokenOffsets });
    const rest = { tokens: [5001, 5002], place: 1 };
    expect(text.restFrom(1)).toEqual(rest);
    reads = 0;
    for (let i = 0; i < 10; i++) expect(text.restFrom(1)).toEqual(rest);
    expect(reads).toBeGreaterThan(0);
    expect(reads).toBeLessThan(2000);
  });

  test("goes on with the last of several tokens of the same text, since the first only spell out bytes", () => {
    const spelled = texts(["a", "b", "ab", "b"].map((word) => new TextEncoder().encode(word)));
    expect(new PredictedText([2], spelled).restFrom(1)).toEqual({ tokens: [3], place: 1 });
  });
});
