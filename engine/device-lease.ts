/**
 * An engine's end of a device that several engines share: whether it may compute now, and until when.
 *
 * It keeps the device for as long as nobody else wants it, so that an engine that is busy alone says nothing. What it has
 * asked for it does not take back: a turn that it needs no more it gives back when it comes.
 */
import { performance } from "node:perf_hooks";
import type { EngineEvent } from "./protocol.ts";

export class DeviceLease {
  readonly #emit: (event: EngineEvent) => void;
  #held = false;
  #wantedMs: number | undefined;
  /** When others are to have it. */
  #dueMs = Infinity;
  #waiters: (() => void)[] = [];
  #closed = false;
  /** Called when the engine has got the device, or is to give it up. */
  onChange: () => void = () => undefined;
  /** Time from asking for the device to having it, of all turns. */
  waitedMs = 0;

  constructor(emit: (event: EngineEvent) => void) {
    this.#emit = emit;
  }

  get held(): boolean {
    return this.#held;
  }

  /** How long the engine may still compute, in ms; `Infinity` where nobody waits. */
  get leftMs(): number {
    return this.#held ? this.#dueMs - performance.now() : 0;
  }

  /** Asks for the device, once. */
  want(): void {
    if (this.#held || this.#wantedMs !== undefined) return;
    this.#wantedMs = performance.now();
    this.#emit({ type: "device_wanted" });
  }

  /**
   * Gives the device back.
   * @param again Whether the engine has more to compute: it has asked for its next turn then.
   */
  free(again: boolean): void {
    if (!this.#held) return;
    this.#held = false;
    if (again) this.#wantedMs = performance.now();
    this.#emit({ type: "device_freed", again });
  }

  /** Between native calls: resolves when the next one may begin, at once where nobody else is to have the device now. */
  async turn(): Promise<void> {
    if (this.#closed || this.leftMs > 0) return;
    if (this.#held) this.free(true);
    else this.want();
    await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  /** The engine has the device, for so many ms once others wait; `Infinity`: nobody does. */
  grant(forMs: number): void {
    const nowMs = performance.now();
    this.waitedMs += nowMs - (this.#wantedMs ?? nowMs);
    this.#wantedMs = undefined;
    this.#held = true;
    this.#dueMs = nowMs + forMs;
    this.#tell();
  }

  /** Others want the device: they are to have it in so many ms, behind the native call that runs then; `Infinity`: they are gone. */
  recall(afterMs: number): void {
    // What has been given back meanwhile cannot be taken.
    if (!this.#held) return;
    this.#dueMs = performance.now() + afterMs;
    this.onChange();
  }

  /** The engine ends, and the device comes free with its process: nobody waits for a turn any more. */
  close(): void {
    this.#closed = true;
    this.#tell();
  }

  #tell(): void {
    for (const resolve of this.#waiters.splice(0)) resolve();
    this.onChange();
  }
}
