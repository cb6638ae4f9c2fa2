/**
 * How many device passes a native call takes: the cost that scheduling can change.
 *
 * Mirrors llama.cpp's `split_equal(n_ubatch, sequential=true)` with one KV stream per sequence: a pass takes
 * sequences with consecutive ascending ids, in the order they were added, and the same number of tokens from
 * each. A contract test holds it against the runtime.
 */
export interface PassEntry {
  readonly slot: number;
  /** Number of tokens. */
  readonly tokens: number;
}

export interface DevicePass {
  readonly slots: readonly number[];
  /** Tokens of each slot in this pass. */
  readonly tokensEach: number;
}

/** @param entries In the order they are added to the batch. */
export function devicePasses(entries: readonly PassEntry[], batchTokens: number): DevicePass[] {
  const left = entries.map((entry) => entry.tokens);
  const passes: DevicePass[] = [];
  let remaining = left.reduce((sum, tokens) => sum + tokens, 0);
  while (remaining > 0) {
    const run: number[] = [];
    for (let i = 0; i < entries.length && run.length < batchTokens; i++) {
      if (left[i] === 0) continue;
      const last = run.at(-1);
      if (last === undefined || slotAt(entries, i) === slotAt(entries, last) + 1) run.push(i);
    }
    const fewest = Math.min(...run.map((i) => left[i] ?? 0));
    const tokensEach = Math.min(fewest, Math.max(1, Math.floor(batchTokens / run.length)));
    for (const i of run) left[i] = (left[i] ?? 0) - tokensEach;
    remaining -= tokensEach * run.length;
    passes.push({ slots: run.map((i) => slotAt(entries, i)), tokensEach });
  }
  return passes;
}

/** The width of each run of adjacent slots, which are given in ascending order. */
export function adjacentWidths(ascending: readonly { readonly slot: number }[]): number[] {
  const widths: number[] = [];
  let from = 0;
  for (let i = 1; i <= ascending.length; i++) {
    if (i < ascending.length && ascending[i]?.slot === (ascending[i - 1]?.slot ?? 0) + 1) continue;
    widths.push(i - from);
    from = i;
  }
  return widths;
}

/** Runs of adjacent slots, given in ascending order: each is one device pass when every slot feeds one token. */
export function adjacentRuns(slots: readonly number[]): { first: number; last: number }[] {
  const runs: { first: number; last: number }[] = [];
  for (const slot of slots) {
    const run = runs.at(-1);
    if (run !== undefined && slot === run.last + 1) run.last = slot;
    else runs.push({ first: slot, last: slot });
  }
  return runs;
}

function slotAt(entries: readonly PassEntry[], index: number): number {
  return entries[index]?.slot ?? -1;
}
