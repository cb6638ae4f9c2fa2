/**
 * Cells of a prompt that follow each other, in one call, which a device computes faster than one after the other.
 *
 * Of a prompt that is computed from the grid on whole cells only, where that changes no bit: what is computed for it still
 * does not depend on who else is served. A prompt that goes on behind tokens of another shape, such as a chat template's
 * that another one's slot had, depends on that anyway, and is cut as it is fastest.
 */
import type { PlannedCall, ScheduledRequest, SchedulerConfig, SchedulerState, Slot } from "./types.ts";

/**
 * Of the time between tokens that is wanted, what prompts take in one call where nobody waits for a token: newcomers wait
 * for it. On 2 cores four cells of 64 tokens still fit into it behind 2,800 others.
 */
const IDLE_SHARE = 4;

/** What a cell costs behind another one in the same call, of what it costs in its own (0.78 to 0.81; 135M model, 2 cores). */
const JOINED_COST = 0.8;

/** The first cell with as many of those behind it as may be joined to it; none if there is none. */
export function longestCall(
  state: SchedulerState,
  cells: Iterable<{ readonly cell: PlannedCall }>,
): PlannedCall[] {
  let call: PlannedCall | undefined;
  for (const { cell } of cells) {
    if (call === undefined) {
      call = cell;
      continue;
    }
    if (!mayJoin(state, call, cell)) break;
    const longer = join(call, cell);
    if (longer.predictedMs > IDLE_SHARE * state.config.itlTargetMs) break;
    call = longer;
  }
  return call === undefined ? [] : [call];
}

/** Whether the second cell may be computed in the same call as what ends with the first. */
function mayJoin(state: SchedulerState, first: PlannedCall, second: PlannedCall): boolean {
  const { joinedCells, prefillChunk: grid, batchTokens } = state.config;
  const [before] = first.entries;
  const [after] = second.entries;
  if (joinedCells !== true || before === undefined || after === undefined) return false;
  const request = state.requests.get(after.request ?? "");
  if (request === undefined || before.request !== after.request) return false;
  if (before.everyLogit === true || after.everyLogit === true) return false;
  const start = before.position;
  const end = after.position + after.tokens.length;
  const slot = state.slots[after.slot];
  const fits = start + before.tokens.length === after.position && end - start <= batchTokens;
  if (!fits || slot === undefined || end >= request.prompt.length) return false;
  return (start % grid === 0 && end % grid === 0) || isOffGrid(start, request, slot, state.config);
}

/**
 * Whether a request's cells from `start` on follow others that no cold run would have computed alike. Of one that has
 * its slot from this step on only a start beside the grid tells: what is known of it, and of the slot, is older.
 */
export function isOffGrid(
  start: number,
  { id, cachedTokens }: Pick<ScheduledRequest, "id" | "cachedTokens">,
  { owner, gridEnd }: Pick<Slot, "owner" | "gridEnd">,
  { deterministic, prefillChunk: grid }: Pick<SchedulerConfig, "deterministic" | "prefillChunk">,
): boolean {
  if (deterministic) return false;
  if (start % grid !== 0) return true;
  return owner === id && (cachedTokens % grid !== 0 || gridEnd < cachedTokens);
}

/** The same cells in as few calls as can be, in their order. */
export function joined(state: SchedulerState, cells: readonly PlannedCall[]): PlannedCall[] {
  const calls: PlannedCall[] = [];
  for (const cell of cells) {
    const last = calls.at(-1);
    if (last === undefined || !mayJoin(state, last, cell)) calls.push(cell);
    else calls[calls.length - 1] = join(last, cell);
  }
  return calls;
}

function join(first: PlannedCall, second: PlannedCall): PlannedCall {
  const total = first.tokens + second.tokens;
  const tokens = new Uint32Array(total);
  tokens.set(first.entries[0]?.tokens ?? []);
  tokens.set(second.entries[0]?.tokens ?? [], first.tokens);
  return {
    ...first,
    entries: first.entries.map((entry) => ({ ...entry, tokens })),
    tokens: total,
    tokenCells: (first.tokenCells ?? 0) + JOINED_COST * (second.tokenCells ?? 0),
    predictedMs: first.predictedMs + JOINED_COST * second.predictedMs,
    unscaledMs: first.unscaledMs + JOINED_COST * second.unscaledMs,
  };
}
