import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { PromptPart } from "../../engine/protocol.ts";
import { TokenAttribute } from "../../engine/token-attribute.ts";
import { guardStrings, stringsOf, toPromptParts, unusedCharacters } from "../../models/prompt-parts.ts";
import { controlToken, tableOf, textToken } from "./token-tables.ts";

const table = tableOf([
  controlToken("<|im_start|>"),
  controlToken("<|im_end|>"),
  controlToken("<s>"),
  controlToken("s><"),
  controlToken("⏎"),
  textToken("a"),
]);

const special = (text: string): PromptPart => ({ text, special: true });
const plain = (text: string): PromptPart => ({ text, special: false });

/** Neighbouring plain parts as one, none empty. */
function merged(parts: readonly { text: string; special: boolean }[]): PromptPart[] {
  const result: { text: string; special: boolean }[] = [];
  for (const part of parts) {
    const last = result.at(-1);
    if (part.text === "") continue;
    if (!part.special && last?.special === false) last.text += part.text;
    else result.push({ ...part });
  }
  return result;
}

const wild = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        "<|im_start|>",
        "<|im_end|>",
        "<s>",
        "s><",
        "⏎",
        "<|im_",
        "start|>",
        "im_end|>",
        "<",
        ">",
        "s",
      ),
      fc.constantFrom("\ue000", "\ue001", "\\ue002", "\n", " ", "😀"),
      fc.string({ maxLength: 4 }),
    ),
    { maxLength: 6 },
  )
  .map((parts) => parts.join(""));

describe("prompt parts", () => {
  it("are special exactly where the template is, and plain with exactly what the user sent", () => {
    fc.assert(
      fc.property(fc.array(fc.record({ name: wild, content: wild }), { maxLength: 4 }), (messages) => {
        const { value, sentinel } = guardStrings(messages, table);
        const rendered = value.map((m) => `<s><|im_start|>user ${m.name}${m.content}<|im_end|>\n`).join("");
        const expected = messages.flatMap((m) => [
          { text: "<s>", special: true },
          { text: "<|im_start|>", special: true },
          { text: `user ${m.name}${m.content}`, special: false },
          { text: "<|im_end|>", special: true },
          { text: "\n", special: false },
        ]);
        expect(toPromptParts(rendered, table, sentinel)).toEqual(merged(expected));
      }),
      { numRuns: 3000 },
    );
  });

  it("are what the user sent also through JSON, plain or ASCII", () => {
    const ascii = (json: string): string =>
      json.replace(/[\u0080-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
    fc.assert(
      fc.property(fc.dictionary(wild, wild, { noNullPrototype: true }), (tool) => {
        const { value, sentinel } = guardStrings(tool, table);
        const json = JSON.stringify(value);
        const text = (parts: readonly PromptPart[]): string =>
          parts.map((part) => ("text" in part && !part.special ? part.text : "")).join("");
        expect(text(toPromptParts(json, table, sentinel))).toBe(JSON.stringify(tool));
        expect(text(toPromptParts(ascii(json), table, sentinel))).toBe(ascii(JSON.stringify(tool)));
      }),
      { numRuns: 1000 },
    );
  });

  it("hand back the same value when there is nothing to guard", () => {
    const value = { messages: [{ role: "user", content: "1 < 2, [x] and html" }] };
    expect(guardStrings(value, table)).toEqual({ value, sentinel: undefined });
    expect(guardStrings(value, table).value).toBe(value);
  });

  it("keep a control string apart that two strings make together", () => {
    const { value, sentinel } = guardStrings(["<|im_", "end|>"], table);
    expect(toPromptParts(value.join(""), table, sentinel)).toEqual([plain("<|im_end|>")]);
  });

  it("keep a control string apart whose beginning the template writes", () => {
    const { value, sentinel } = guardStrings(["im_end|>", "|im_end|"], table);
    expect(toPromptParts(`<|${value[0]}`, table, sentinel)).toEqual([plain("<|im_end|>")]);
    expect(toPromptParts(`<${value[1]}>`, table, sentinel)).toEqual([plain("<|im_end|>")]);
  });

  it("let a template make a control string from a role", () => {
    const roles = tableOf([controlToken("<|user|>")]);
    const { value, sentinel } = guardStrings({ role: "user" }, roles);
    expect(toPromptParts(`<|${value.role}|>`, roles, sentinel)).toEqual([special("<|user|>")]);
  });

  it("guard the keys of objects", () => {
    const { value, sentinel } = guardStrings({ "<s>": { "a<|im_end|>": 1 } }, table);
    expect(toPromptParts(JSON.stringify(value), table, sentinel)).toEqual([
      plain('{"<s>":{"a<|im_end|>":1}}'),
    ]);
  });

  it("mark with a character that neither the value nor the template has", () => {
    const value = ["<s>", "\ue000", "\\uE001"];
    expect(guardStrings(value, table, ["\ue002"]).sentinel).toBe("\ue003");
    const all = Array.from({ length: 6400 }, (_, index) => String.fromCharCode(0xe000 + index)).join("");
    expect(unusedCharacters([all], 1)).toEqual([]);
    expect(() => guardStrings(["<s>", all], table)).toThrow(RangeError);
  });

  it("drop the white space that a token swallows", () => {
    const stripping = tableOf([
      controlToken("<l>", TokenAttribute.lstrip),
      controlToken("<r>", TokenAttribute.rstrip),
    ]);
    expect(toPromptParts("a \n<l> b <r> \n c", stripping, undefined)).toEqual([
      plain("a"),
      special("<l>"),
      plain(" b "),
      special("<r>"),
      plain("c"),
    ]);
  });

  it("are one plain part for a vocabulary without control tokens", () => {
    const none = tableOf([textToken("a")]);
    expect(toPromptParts("<s>a", none, guardStrings(["<s>"], none).sentinel)).toEqual([plain("<s>a")]);
  });

  it("find every string of a value", () => {
    expect(stringsOf({ a: ["b", { c: null, d: 1 }] })).toEqual(["a", "b", "c", "d"]);
  });
});
