/** How a broken invariant is told. */
import { EngineError } from "../errors.ts";

/** Sums of floating-point times, taken in different orders. */
export const ROUNDING_MS = 1e-6;

/** @throws {EngineError} `internal`, naming the invariant that does not hold. */
export function expect(holds: boolean, invariant: string): void {
  if (!holds) throw new EngineError("internal", `Invariant broken: ${invariant}.`);
}
