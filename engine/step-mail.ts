/**
 * When what steps have produced is sent: while the next call computes, so that the device never waits for a message.
 *
 * Tokens that come fast wait for the next ones. A message costs the same whatever is in it, here, in the server and in each
 * client, and on a CPU that time is the device's: with a token every 10 ms a twentieth of it on two cores.
 */
import type { EngineEvent } from "./protocol.ts";
import type { StepRecord } from "./step-record.ts";

export interface StepMailOptions {
  readonly record: StepRecord;
  readonly emit: (event: EngineEvent) => void;
  /** Longest that a token waits for others, in ms; 0: none does. */
  readonly gatherMs: number;
}

export class StepMail {
  readonly #record: StepRecord;
  readonly #emit: (event: EngineEvent) => void;
  readonly #gatherMs: number;
  /** For calls that take longer than was expected, and steps that do not come. */
  #timer: NodeJS.Timeout | undefined;

  constructor({ record, emit, gatherMs }: StepMailOptions) {
    this.#record = record;
    this.#emit = emit;
    this.#gatherMs = gatherMs;
  }

  /** Sends all there is. */
  send(): void {
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    this.#timer = undefined;
    const event = this.#record.takeStep();
    if (event !== undefined) this.#emit(event);
  }

  /** Sends what cannot wait for the end of a call that has just begun, and with it all else. */
  sendBeside(expectedMs: number): void {
    const { patientSinceMs } = this.#record;
    if (patientSinceMs === undefined) return this.send();
    const leftMs = patientSinceMs + this.#gatherMs - performance.now();
    if (expectedMs > leftMs) return this.send();
    this.#record.seal();
    this.#timer ??= setTimeout(() => this.send(), leftMs);
  }

  /** Nothing is sent any more. */
  close(): void {
    clearTimeout(this.#timer);
  }
}
