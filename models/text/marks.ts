/** Fixed texts in a text that is still being written: where one stands, and what may yet become one. Pure. */

/** The first of them; of several at one place, the first in the list. Undefined when none is in the text. */
export function findMark<M extends { readonly text: string }>(
  text: string,
  marks: readonly M[],
): { readonly at: number; readonly mark: M } | undefined {
  let first: { at: number; mark: M } | undefined;
  for (const mark of marks) {
    const at = text.indexOf(mark.text);
    if (at !== -1 && (first === undefined || at < first.at)) first = { at, mark };
  }
  return first;
}

/** Length of the longest tail of the text that is the beginning of a mark, but not all of it, in UTF-16 units. */
export function openLength(text: string, marks: readonly { readonly text: string }[]): number {
  let longest = 0;
  for (const { text: mark } of marks) {
    let length = Math.min(text.length, mark.length - 1);
    while (length > longest && !mark.startsWith(text.slice(text.length - length))) length--;
    longest = Math.max(longest, length);
  }
  return longest;
}
