/** Which of the known names a mistyped one was meant to be. */

/** @returns Undefined where none is near enough to have been meant. */
export function nearestName(typed: string, known: readonly string[]): string | undefined {
  const word = plain(typed);
  // A third of a word may be wrong, and of a short one a single letter.
  let least = Math.max(1, Math.floor(word.length / 3)) + 1;
  let nearest: string | undefined;
  for (const name of known) {
    const other = plain(name);
    if (Math.abs(other.length - word.length) >= least) continue;
    const distance = edits(word, other);
    if (distance < least) [least, nearest] = [distance, name];
  }
  return nearest;
}

/** Capitals and underscores are no difference. */
function plain(name: string): string {
  return name.toLowerCase().replaceAll("_", "-");
}

/** Letters to change, to add, to leave out, or to exchange with the next one. */
function edits(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const changed = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const exchanged =
        a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? (before[j - 2] ?? Infinity) + 1 : Infinity;
      next.push(Math.min(changed, exchanged, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    [before, row] = [row, next];
  }
  return row[b.length] ?? 0;
}
