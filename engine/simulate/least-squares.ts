/** Fits sums of costs: the non-negative numbers by which features explain observed times best. */

/** Coordinate descent on so few unknowns is done long before this. */
const MOST_ROUNDS = 5000;
const ENOUGH = 1e-12;

/**
 * @param rows Features of each observation, all of the same length.
 * @returns One coefficient for each feature, none below 0, with the least sum of squared errors.
 */
export function nonNegativeLeastSquares(
  rows: readonly (readonly number[])[],
  observed: readonly number[],
): number[] {
  const size = rows[0]?.length ?? 0;
  const gram = Array.from({ length: size }, () => Array.from({ length: size }, () => 0));
  const target = Array.from({ length: size }, () => 0);
  rows.forEach((row, r) => {
    for (let i = 0; i < size; i++) {
      target[i] = at(target, i) + at(row, i) * at(observed, r);
      const line = gram[i] ?? [];
      for (let j = 0; j < size; j++) line[j] = at(line, j) + at(row, i) * at(row, j);
    }
  });
  const solution = Array.from({ length: size }, () => 0);
  for (let round = 0; round < MOST_ROUNDS; round++) {
    let moved = 0;
    for (let i = 0; i < size; i++) {
      const line = gram[i] ?? [];
      const diagonal = at(line, i);
      if (diagonal <= 0) continue;
      let rest = at(target, i);
      for (let j = 0; j < size; j++) if (j !== i) rest -= at(line, j) * at(solution, j);
      const value = Math.max(0, rest / diagonal);
      moved = Math.max(moved, Math.abs(value - at(solution, i)) / Math.max(value, ENOUGH));
      solution[i] = value;
    }
    if (moved < ENOUGH) break;
  }
  return solution;
}

function at(numbers: readonly number[], index: number): number {
  return numbers[index] ?? 0;
}
