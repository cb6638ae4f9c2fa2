/** Where prompts and what resumed requests have said already are cut. */
import { expect, test } from "vitest";
import { prefillCellEnd, prefillEnd, promptCellEnd } from "../../../engine/scheduler/prefill-cells.ts";

/** The ends of all cells of a request with so many tokens of prompt and output. */
function cellEnds(
  prompt: number,
  output: number,
  settings: { prefillChunk: number; exactCells?: boolean },
): number[] {
  const cutting = { batchTokens: 512, ...settings };
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

/** The ends of all cells of a prompt that goes on behind so many tokens of another one. */
function endsBehind(reused: number, promptEnd: number, batchTokens = 512): number[] {
  const ends: number[] = [];
  const cutting = { prefillChunk: 64, joinedCells: true, batchTokens };
  for (let at = reused; at < promptEnd; ends.push(at)) at = promptCellEnd(at, promptEnd, cutting);
  return ends;
}

test("behind tokens of another shape a short end is part of the cell before it", () => {
  expect(endsBehind(24, 24 + 128 + 8)).toEqual([88, 160]);
  expect(endsBehind(24, 24 + 128 + 9)).toEqual([88, 152, 161]);
  expect(endsBehind(24, 24 + 65)).toEqual([89]);
});

test("but not on the grid, where its bits are those of whole cells, nor where a batch has no room for it", () => {
  expect(endsBehind(64, 64 + 128 + 8)).toEqual([128, 192, 200]);
  expect(endsBehind(24, 24 + 128 + 8, 70)).toEqual([88, 152, 160]);
});
