/** Where prompts and what resumed requests have said already are cut. */
import { expect, test } from "vitest";
import { prefillCellEnd, prefillEnd } from "../../../engine/scheduler/prefill-cells.ts";

/** The ends of all cells of a request with so many tokens of prompt and output. */
function cellEnds(
  prompt: number,
  output: number,
  cutting: { prefillChunk: number; exactCells?: boolean },
): number[] {
  const request = { prompt: new Uint32Array(prompt), output: Array.from({ length: output }, () => 0) };
  const ends: number[] = [];
  for (let at = 0; at < prefillEnd(request, cutting); ends.push(at))
    at = prefillCellEnd(at, request, cutting);
  return ends;
}

test("a prompt is cut on the grid and before its last token", () => {
  expect(cellEnds(151, 0, { prefillChunk: 64 })).toEqual([64, 128, 150]);
});

test("what a resumed request has said is computed in cells shorter than a tile, none of a single token", () => {
  expect(cellEnds(101, 70, { prefillChunk: 64 })).toEqual([64, 100, 132, 164, 170]);
  expect(cellEnds(101, 65, { prefillChunk: 64 })).toEqual([64, 100, 132, 164]);
});

test("where no cell has the bits of decoding it is fed as it was drawn", () => {
  expect(cellEnds(101, 70, { prefillChunk: 64, exactCells: false })).toEqual([64, 100]);
});
