/** What a step loop works with beside its state and its backend, and whom it tells of its work. */
import type { DeviceLease } from "./device-lease.ts";
import type { Drafter } from "./drafter.ts";
import type { FlightRecorder } from "./flight-recorder.ts";
import type { EngineEvent } from "./protocol.ts";
import type { SpillStore } from "./spill-store.ts";

/** Native work outside of slots, in pieces that are no longer than a step, or end behind a call of it once a request comes. */
export interface SideWork {
  readonly pending: boolean;
  /** Never rejects. */
  runPiece(): Promise<void>;
}

/** Whom a step loop tells of its work. */
export interface StepLoopLinks {
  readonly emit: (event: EngineEvent) => void;
  /** As in `LoadOptions`. */
  readonly gatherMs?: number | undefined;
  /** Gets a turn between steps. */
  readonly sideWork: SideWork;
  readonly recorder: FlightRecorder;
  /** Makes the guesses of the draft model, where there is one. */
  readonly drafter?: Drafter | undefined;
  /** Absent where no prefixes are kept in files. */
  readonly spill?: SpillStore | undefined;
  /** Absent where no other engine uses the device. */
  readonly lease?: DeviceLease | undefined;
}
