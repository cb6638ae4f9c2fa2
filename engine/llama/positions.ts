/** How many tokens a sequence may have at most, whatever is asked for. */
import type { LlamaModel } from "node-llama-cpp";

/** What llama.cpp calls a table with a row for each position. */
const TABLE = "position_embd.weight";

/**
 * Rows of the model's table of positions; Infinity for a model that works them out, as nearly all do that generate.
 * A token behind the last row ends the process.
 */
export function positionsOf({ fileInfo }: LlamaModel): number {
  const table = (fileInfo.fullTensorInfo ?? []).find(({ name }) => name === TABLE);
  const rows = table?.dimensions[1];
  return rows === undefined ? Infinity : Number(rows);
}
