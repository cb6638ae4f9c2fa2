/** Where a text stops being JSON, in words for whoever wrote it. */

/** @param text Not JSON. */
export function jsonProblem(text: string): string {
  if (couldGoOn(text)) return "it ends too early";
  const message = messageOf(text) ?? "";
  // "Unexpected token 'x', ..."some text"... is not valid JSON" is without a place.
  const [, what = message] = /^(.*?)(?:,? (?:in JSON )?at position |, (?:\.\.\.)?")/s.exec(message) ?? [];
  const lines = text.slice(0, offsetOf(text)).split("\n");
  return `${what} at line ${lines.length}, column ${(lines.at(-1) ?? "").length + 1}`;
}

/** Of the first character that cannot stand where it does: behind the longest beginning that could go on. */
function offsetOf(text: string): number {
  let [good, bad] = [0, text.length];
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2);
    if (couldGoOn(text.slice(0, middle))) good = middle;
    else bad = middle;
  }
  return bad - 1;
}

function couldGoOn(beginning: string): boolean {
  const message = messageOf(beginning);
  if (message === undefined || /^(?:Unexpected end|Unterminated)/.test(message)) return true;
  return Number(/ at position (\d+)/.exec(message)?.[1]) === beginning.length;
}

/** Undefined for JSON. */
function messageOf(text: string): string | undefined {
  try {
    JSON.parse(text);
    return undefined;
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause);
  }
}
