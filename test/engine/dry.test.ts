/** DRY's penalties, against a definition that compares everything with everything. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DryPenalties } from "../../engine/dry.ts";
import type { DryParams } from "../../engine/protocol.ts";

const PARAMS: DryParams = { multiplier: 1, base: 2, allowedLength: 2, lastTokens: 0, breakers: [] };

/** A token is a letter of this; `\n` breaks. */
const LETTERS = "abcxy\n";
const tokensOf = (text: string): number[] => Array.from(text, (letter) => LETTERS.indexOf(letter));
const bytesOf = (token: number): Uint8Array => Buffer.from(LETTERS[token] ?? "");

function penaltiesOf(params: Partial<DryParams>, prompt: string, output: string): Record<string, number> {
  const dry = new DryPenalties({ ...PARAMS, ...params }, tokensOf(prompt), bytesOf);
  return Object.fromEntries([...dry.after(tokensOf(output))].map(([token, by]) => [LETTERS[token], by]));
}

/** For every earlier place: how long the text up to it equals the end of the text. */
function slowPenalties(params: DryParams, text: string): Record<string, number> {
  const window = params.lastTokens > 0 ? text.slice(-params.lastTokens) : text;
  const breaks = params.breakers.map((breaker) => {
    const at = text.lastIndexOf(breaker);
    return at === -1 ? text.length : text.length - at - breaker.length;
  });
  const penalties: Record<string, number> = {};
  for (let end = 1; end < window.length; end++) {
    let repeats = 0;
    while (repeats < end && window[end - 1 - repeats] === window[window.length - 1 - repeats]) repeats++;
    repeats = Math.min(repeats, ...breaks);
    if (repeats < params.allowedLength || window.length <= params.allowedLength) continue;
    const next = window[end] ?? "";
    const by = params.multiplier * params.base ** (repeats - params.allowedLength);
    penalties[next] = Math.max(penalties[next] ?? 0, Math.min(1000, by));
  }
  return penalties;
}

describe("a token that goes on with a repetition", () => {
  test.each<[string, Partial<DryParams>, string, string, Record<string, number>]>([
    ["loses more the longer it is", {}, "abcx", "abc", { x: 2 }],
    ["loses nothing within the allowed length", { allowedLength: 4 }, "abcx", "abc", {}],
    ["is punished from the allowed length on", { allowedLength: 3 }, "abcx", "abc", { x: 1 }],
    ["is any of several", {}, "bcxabcy", "abc", { x: 1, y: 2 }],
    ["may be the repetition's own", {}, "aaaa", "", { a: 2 }],
    ["is not punished across a breaker", { breakers: ["\n"] }, "abcx", "a\nc", {}],
    ["is punished behind one", { breakers: ["\n"] }, "abcx", "\nabc", { x: 2 }],
    ["counts from the breaker on", { breakers: ["\n"] }, "a\nbcxa", "\nbc", { x: 1 }],
    ["knows breakers of several tokens", { breakers: ["ab"] }, "abcx", "abc", {}],
    ["is looked for in the window only", { lastTokens: 5 }, "abcx", "yabc", {}],
    ["loses no more than a bound", { base: 50 }, "aaaaaaaa", "", { a: 1000 }],
  ])("%s", (_name, params, prompt, output, penalties) => {
    expect(penaltiesOf(params, prompt, output)).toEqual(penalties);
    // It makes no difference where the output begins.
    expect(penaltiesOf(params, "", prompt + output)).toEqual(penalties);
  });

  test("is what comparing everything with everything finds, whatever was asked before", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b", "\n", "x"), maxLength: 40 });
    const params = fc.record({
      multiplier: fc.constantFrom(0.5, 3),
      base: fc.constantFrom(1, 1.75),
      allowedLength: fc.nat(4),
      lastTokens: fc.nat(20),
      breakers: fc.subarray(["\n", "xa", "bab", ""]),
    });
    const property = fc.property(params, text, fc.array(text, { maxLength: 3 }), (given, prompt, outputs) => {
      const dry = new DryPenalties({ ...PARAMS, ...given }, tokensOf(prompt), bytesOf);
      for (const output of [...outputs, "", (outputs[0] ?? "").slice(0, -2)]) {
        const found = [...dry.after(tokensOf(output))].map(([token, by]) => [LETTERS[token], by] as const);
        const breakers = given.breakers.filter((breaker) => breaker !== "");
        expect(Object.fromEntries(found)).toEqual(slowPenalties({ ...given, breakers }, prompt + output));
      }
    });
    fc.assert(property, { numRuns: 300 });
  });
});
