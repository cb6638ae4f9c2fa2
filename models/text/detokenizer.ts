/** Turns the tokens of one output into text, holding back the bytes of a character that is not whole yet. */
import type { TokenId } from "../../engine/protocol.ts";
import type { TokenTable } from "./token-table.ts";

export interface DetokenizerOptions {
  /** Leaves the names of control tokens out of the text. */
  readonly skipControl: boolean;
  /** Names of control tokens that are text all the same, such as a `</think>` that a parser looks for. */
  readonly keepControl?: readonly string[];
}

const NOTHING = new Uint8Array(0);

/**
 * The text of all pushes and the flush is what a `TextDecoder` makes of all the bytes together (U+FEFF is kept),
 * and no push ends within a surrogate pair. At most 3 bytes are held back.
 */
export class Detokenizer {
  readonly #table: TokenTable;
  readonly #skipControl: boolean;
  readonly #keepControl: ReadonlySet<string>;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #pending: Uint8Array = NOTHING;

  constructor(table: TokenTable, options: DetokenizerOptions) {
    this.#table = table;
    this.#skipControl = options.skipControl;
    this.#keepControl = new Set(options.keepControl);
  }

  /** Whether bytes of a character that has begun are held back. */
  get pending(): boolean {
    return this.#pending.length > 0;
  }

  /** Whether the token has text in this output: end tokens never have, control tokens only when they are kept. */
  shows(token: TokenId): boolean {
    if (this.#table.isEnd(token)) return false;
    if (!this.#skipControl || !this.#table.isControl(token)) return true;
    return this.#keepControl.size > 0 && this.#keepControl.has(this.#table.piece(token));
  }

  /** The text that is whole now; "" while a character is incomplete and for tokens without text. */
  push(token: TokenId): string {
    if (!this.shows(token)) return "";
    const own = this.#table.bytes(token);
    if (this.#pending.length === 0) {
      const ascii = asciiText(own);
      if (ascii !== undefined) return ascii;
    }
    const bytes = this.#pending.length === 0 ? own : joined(this.#pending, own);
    const whole = bytes.length - incompleteTail(bytes);
    // A copy, because the token's bytes are a view of the whole vocabulary.
    this.#pending = whole === bytes.length ? NOTHING : bytes.slice(whole);
    return whole === 0 ? "" : this.#decoder.decode(bytes.subarray(0, whole));
  }

  /** What a truncated last character becomes: one U+FFFD, or "". */
  flush(): string {
    const rest = this.#pending;
    this.#pending = NOTHING;
    return rest.length === 0 ? "" : this.#decoder.decode(rest);
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}

/** Most tokens are a short ASCII word, for which a call of the decoder costs more than all the rest. */
function asciiText(bytes: Uint8Array): string | undefined {
  let text = "";
  for (const byte of bytes) {
    if (byte >= 0x80) return undefined;
    text += String.fromCharCode(byte);
  }
  return text;
}

/** Length of the longest tail that a further byte could still make a character; 0 to 3. */
function incompleteTail(bytes: Uint8Array): number {
  for (let length = 1; length <= Math.min(3, bytes.length); length++) {
    const lead = bytes[bytes.length - length] ?? 0;
    if ((lead & 0xc0) === 0x80) continue;
    if (length >= characterLength(lead)) return 0;
    return length === 1 || maySecond(lead, bytes[bytes.length - length + 1] ?? 0) ? length : 0;
  }
  return 0;
}

/** Bytes of a character that begins with this one; 0 when none does. */
function characterLength(lead: number): number {
  if (lead >= 0xf0) return lead <= 0xf4 ? 4 : 0;
  if (lead >= 0xe0) return 3;
  return lead >= 0xc2 ? 2 : 0;
}

/** Whether a decoder goes on after these two bytes: overlong forms, surrogates and code points over U+10FFFF end at once. */
function maySecond(lead: number, second: number): boolean {
  if (lead === 0xe0) return second >= 0xa0;
  if (lead === 0xed) return second <= 0x9f;
  if (lead === 0xf0) return second >= 0x90;
  if (lead === 0xf4) return second <= 0x8f;
  return true;
}
