import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Detokenizer } from "../../../models/text/detokenizer.ts";
import { TokenAttribute } from "../../../engine/token-attribute.ts";
import { controlToken, endToken, tableOf, textToken } from "../token-tables.ts";

function decodeAll(pieces: readonly Uint8Array[]): string[] {
  const table = tableOf(pieces.map((bytes) => ({ bytes, attributes: TokenAttribute.normal })));
  const detokenizer = new Detokenizer(table, { skipControl: true });
  return [...pieces.map((_, token) => detokenizer.push(token)), detokenizer.flush()];
}

/** Bytes that begin, continue and spoil characters more often than random ones. */
const awkwardByte = fc.oneof(
  fc.constantFrom(
    0x41,
    0x80,
    0x8f,
    0x90,
    0x9f,
    0xa0,
    0xbf,
    0xc0,
    0xc2,
    0xe0,
    0xe2,
    0xed,
    0xef,
    0xf0,
    0xf4,
    0xf5,
  ),
  fc.integer({ min: 0, max: 255 }),
);
const anyPiece = fc.array(awkwardByte, { maxLength: 6 }).map((bytes) => Uint8Array.from(bytes));

describe("Detokenizer", () => {
  it("gives the text that a TextDecoder gives for all bytes together, however they are cut", () => {
    fc.assert(
      fc.property(fc.array(anyPiece, { maxLength: 12 }), (pieces) => {
        const whole = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.concat(pieces));
        expect(decodeAll(pieces).join("")).toBe(whole);
      }),
      { numRuns: 3000 },
    );
  });

  it("never ends a push within a character", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.array(fc.nat()), (text, places) => {
        const bytes = new TextEncoder().encode(text);
        const cuts = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
        const pieces = [0, ...cuts].map((start, i) => bytes.slice(start, cuts[i] ?? bytes.length));
        const texts = decodeAll(pieces);
        expect(texts.join("")).toBe(text);
        for (const part of texts) expect(part).not.toMatch(/\p{Surrogate}/u);
      }),
    );
  });

  it("holds a character back until its last byte", () => {
    expect(decodeAll([[0xf0], [0x9f, 0x98], [0x80, 0x21]].map((b) => Uint8Array.from(b)))).toEqual([
      "",
      "",
      "😀!",
      "",
    ]);
  });

  it("row 79: turns a character that the end cuts off into one U+FFFD", () => {
    expect(decodeAll([Uint8Array.from([0x61, 0xf0, 0x9f, 0x98])])).toEqual(["a", "\ufffd"]);
  });

  it("shows control tokens only when asked, and end tokens never", () => {
    const table = tableOf([textToken("a"), controlToken("<|x|>"), endToken("<|end|>")]);
    const read = (skipControl: boolean, keepControl: readonly string[] = []): string => {
      const detokenizer = new Detokenizer(table, { skipControl, keepControl });
      return [0, 1, 0, 2].map((token) => detokenizer.push(token)).join("");
    };
    expect(read(true)).toBe("aa");
    expect(read(false)).toBe("a<|x|>a");
    expect(read(true, ["<|x|>", "<|end|>"])).toBe("a<|x|>a");
  });
});
