/** Takes the plain input of a custom tool out of its arguments, `{"input": "…"}`, while they are still arriving. */
import { isObject } from "../http/json.ts";

/** Longer than any white space a model writes before the input begins; behind it the form is another one. */
const OPENING = /^\s*\{\s*"input"\s*:\s*"/;
const MAYBE_OPENING = /^\s*(?:\{\s*(?:"(?:i(?:n(?:p(?:u(?:t(?:"\s*(?::\s*)?)?)?)?)?)?)?)?)?$/;

/** An escape that is not all there yet, or half of a surrogate pair whose other half may follow. */
const UNFINISHED = /(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?|\\(?:u[0-9a-fA-F]{0,3})?)$/;

export class CustomInput {
  #state: "opening" | "inside" | "other" | "done" = "opening";
  #pending = "";

  /** @returns The further text of the input; "" while it cannot be told yet: half an escape or opening says nothing. */
  push(text: string): string {
    if (this.#state === "done") return "";
    this.#pending += text;
    if (this.#state === "other") return "";
    if (this.#state === "opening") {
      const opening = OPENING.exec(this.#pending)?.[0];
      if (opening === undefined) {
        if (MAYBE_OPENING.test(this.#pending)) return "";
        this.#state = "other";
        return "";
      }
      this.#state = "inside";
      this.#pending = this.#pending.slice(opening.length);
    }
    return this.#inside();
  }

  /** @returns What could not be told before the end: of arguments of another form the input, else all of them, not to lose them. */
  end(): string {
    if (this.#state !== "other") return "";
    const whole = this.#take(this.#pending.length);
    try {
      const parsed: unknown = JSON.parse(whole);
      if (isObject(parsed) && typeof parsed["input"] === "string") return parsed["input"];
    } catch {
      // Cut off.
    }
    return whole;
  }

  #inside(): string {
    const end = endOfString(this.#pending);
    if (end !== undefined) {
      this.#state = "done";
      return unescaped(this.#take(end));
    }
    const held = UNFINISHED.exec(evenBackslashesGone(this.#pending))?.[0].length ?? 0;
    return unescaped(this.#take(this.#pending.length - held));
  }

  #take(length: number): string {
    const taken = this.#pending.slice(0, length);
    this.#pending = this.#pending.slice(length);
    return taken;
  }
}

/** The input of arguments of which no more will come. */
export function customInput(text: string): string {
  const input = new CustomInput();
  return input.push(text) + input.end();
}

/** The offset of the closing quote. */
function endOfString(text: string): number | undefined {
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === '"') return i;
  }
  return undefined;
}

/** The same length, without escaped backslashes, which begin no escape. */
function evenBackslashesGone(text: string): string {
  return text.replaceAll("\\\\", "  ");
}

function unescaped(text: string): string {
  if (!text.includes("\\")) return text;
  try {
    return JSON.parse(`"${text}"`) as string;
  } catch {
    return text;
  }
}
