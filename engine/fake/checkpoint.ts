/** A checkpoint of the fake backend: all cells that its slot had, since it keeps nothing else. */
import type { SlotCheckpoint } from "../backend.ts";
import type { TokenId } from "../protocol.ts";

export class FakeCheckpoint implements SlotCheckpoint {
  readonly cells: readonly TokenId[];
  readonly first: number;
  disposed = false;

  constructor(cells: readonly TokenId[], first: number) {
    this.cells = cells;
    this.first = first;
  }

  get bytes(): number {
    return 100 + this.cells.length;
  }

  dispose(): void {
    this.disposed = true;
  }
}
