/** Takes the plain input of a custom tool out of its arguments, `{"input": "…"}`, while they are still arriving. */

/** Longer than any white space a model writes before the input begins; behind it the form is another one. */
const OPENING = /^\s*\{\s*"input"\s*:\s*"/;
const MAYBE_OPENING = /^\s*(?:\{\s*(?:"(?:i(?:n(?:p(?:u(?:t(?:"\s*(?::\s*)?)?)?)?)?)?)?)?)?$/;

/** An escape that is not all there yet, or half of a surrogate pair whose other half may follow. */
const UNFINISHED = /(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?|\\(?:u[0-9a-fA-F]{0,3})?)$/;

export class CustomInput {
  #state: "opening" | "inside" | "raw" | "done" = "opening";
  #pending = "";

  /** @returns The further text of the input; "" while it cannot be told yet: half an escape or opening says nothing. */
  push(text: string): string {
    if (this.#state === "done") return "";
    if (this.#state === "raw") return text;
    this.#pending += text;
    if (this.#state === "opening") {
      const opening = OPENING.exec(this.#pending)?.[0];
      if (opening === undefined) {
        if (MAYBE_OPENING.test(this.#pending)) return "";
        // Arguments of another form are handed on as they are rather than lost.
        this.#state = "raw";
        return this.#take(this.#pending.length);
      }
      this.#state = "inside";
      this.#pending = this.#pending.slice(opening.length);
    }
    return this.#inside();
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
