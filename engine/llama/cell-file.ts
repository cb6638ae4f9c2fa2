/**
 * Files of a sequence's cells between contexts of different numbers of sequences.
 *
 * llama.cpp (`llama_state_seq_save_file`) writes: magic, version, number of tokens, the tokens; then the number of the
 * context's streams, and of each stream the number of its cells and the cells, where a sequence has cells in its own stream
 * alone. A context reads only what says as many streams as it has. All numbers are of 32 bits, in the machine's order.
 */
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { EngineError } from "../errors.ts";

const NUMBER = 4;
/** Magic, version and number of tokens. */
const HEADER = 3 * NUMBER;

/**
 * Makes the file of a context with one sequence one of a context with so many: the others have no cells.
 * @param tokens How many the file was written with.
 * @returns The bytes of the file.
 * @throws {EngineError} `internal` where there is no room, and for a file that is not of one sequence.
 */
export function spreadCellFile(path: string, tokens: number, sequences: number): number {
  const file = openSync(path, "r+");
  try {
    const at = HEADER + tokens * NUMBER;
    const streams = new Uint32Array(1);
    const read = readSync(file, streams, 0, NUMBER, at);
    if (read !== NUMBER || streams[0] !== 1)
      throw new EngineError("internal", "The runtime has written another form of cells than is known.");
    const none = new Uint32Array(sequences - 1);
    const end = fstatSync(file).size;
    const written =
      writeSync(file, Uint32Array.of(sequences), 0, NUMBER, at) +
      writeSync(file, none, 0, none.byteLength, end);
    if (written !== NUMBER + none.byteLength)
      throw new EngineError("internal", "There is no room for all cells.");
    return end + none.byteLength;
  } finally {
    closeSync(file);
  }
}
