/** The names of a vocabulary's control tokens, prepared for finding them, and their beginnings and ends, in text. */
import { TokenAttribute } from "../engine/token-attribute.ts";
import type { TokenTable } from "./text/token-table.ts";

const NON_WORD = /\W/;

export class ControlStrings {
  /** Finds them leftmost, and the longest where several begin; undefined when there are none. */
  readonly #find: RegExp | undefined;
  /** Finds the first character of every one, those that overlap included. */
  readonly #findFirst: RegExp | undefined;
  readonly #attributes = new Map<string, number>();
  readonly #beginnings = new Set<string>();
  readonly #ends = new Set<string>();
  readonly #longest: number = 0;
  readonly #all: string;

  constructor(table: TokenTable) {
    for (let token = 0; token < table.size; token++) {
      if (table.isControl(token)) this.#attributes.set(table.piece(token), table.attributes(token));
    }
    const names = table.controlStrings();
    for (const name of names) {
      this.#longest = Math.max(this.#longest, name.length);
      for (let cut = 1; cut < name.length; cut++) {
        this.#beginnings.add(name.slice(0, cut));
        this.#ends.add(name.slice(cut));
      }
    }
    this.#all = names.join("\n");
    if (names.length === 0) return;
    const alternatives = names.map((name) => name.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|");
    this.#find = new RegExp(alternatives, "gu");
    this.#findFirst = new RegExp(`(?=${alternatives})[^]`, "gu");
  }

  /** The control strings in the text, as a tokenizer would take them. */
  matches(text: string): Iterable<RegExpExecArray> {
    return this.#find === undefined ? [] : text.matchAll(this.#find);
  }

  /** Whether the token swallows white space on that side. */
  strips(name: string, side: "left" | "right"): boolean {
    const bit = side === "left" ? TokenAttribute.lstrip : TokenAttribute.rstrip;
    return ((this.#attributes.get(name) ?? 0) & bit) !== 0;
  }

  /**
   * Where a foreign character must stand so that the text neither contains a control string nor completes one
   * with what comes before or after it: ascending UTF-16 offsets, mostly none.
   *
   * What only begins or completes one is guarded when it has more than word characters: templates may build
   * `<|user|>` from a role, and compare short names.
   */
  breakPoints(text: string): number[] {
    if (this.#findFirst === undefined || text === "") return [];
    const points = new Set<number>();
    for (const match of text.matchAll(this.#findFirst)) {
      // A name of one character cannot be cut; the mark goes before it.
      if (this.#attributes.has(match[0])) points.add(match.index);
      points.add(match.index + match[0].length);
    }
    const reach = Math.min(this.#longest - 1, text.length);
    for (let length = reach; length > 0; length--) {
      const tail = text.slice(text.length - length);
      if (this.#beginnings.has(tail) && NON_WORD.test(tail))
        points.add(text.length - length + firstLength(tail));
    }
    if (this.#isInside(text, reach)) points.add(0);
    return [...points].sort((a, b) => a - b);
  }

  #isInside(text: string, reach: number): boolean {
    if (text.length <= reach && NON_WORD.test(text) && this.#all.includes(text)) return true;
    for (let length = 1; length <= reach; length++) {
      const head = text.slice(0, length);
      if (this.#ends.has(head) && NON_WORD.test(head)) return true;
    }
    return false;
  }
}

function firstLength(text: string): number {
  return (text.codePointAt(0) ?? 0) > 0xffff ? 2 : 1;
}
