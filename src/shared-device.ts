/**
 * One device for several engine processes: stands between each of them and its supervisor, takes their turns out of what
 * they say, and lets the arbiter deal them out. The device of an engine that is gone is free.
 */
import type { EngineCommand, EngineEvent, EngineExit, EnginePort } from "../engine/protocol.ts";
import { DeviceArbiter } from "./device-arbiter.ts";
import type { Seat } from "./device-arbiter.ts";

export interface SharedDeviceHooks {
  /** Monotonic, in ms. */
  readonly nowMs: () => number;
  /** A model's engine has waited so long for the device. */
  readonly onWaited: (model: string, ms: number) => void;
  /** It has had it for so long, whether others wanted it or not. */
  readonly onHeld: (model: string, ms: number) => void;
}

export class SharedDevice {
  readonly #arbiter = new DeviceArbiter();
  readonly #hooks: SharedDeviceHooks;

  constructor(hooks: SharedDeviceHooks) {
    this.#hooks = hooks;
  }

  /**
   * A line to an engine that was told to share the device (`LoadOptions.sharesDevice`).
   * @param weight How much more than one of weight 1 it has of the device while both want it; above 0.
   */
  share(port: EnginePort, model: string, weight: number): EnginePort {
    return new SharingPort(port, { model, weight, arbiter: this.#arbiter, hooks: this.#hooks });
  }
}

interface Place {
  readonly model: string;
  readonly weight: number;
  readonly arbiter: DeviceArbiter;
  readonly hooks: SharedDeviceHooks;
}

class SharingPort implements EnginePort {
  readonly exited: Promise<EngineExit>;
  readonly #port: EnginePort;
  readonly #place: Place;
  readonly #seat: Seat;
  #sinceMs = 0;
  /** Others wait for its turn to end. */
  #owes = false;
  #gone = false;

  constructor(port: EnginePort, place: Place) {
    this.#port = port;
    this.#place = place;
    this.#seat = {
      weight: place.weight,
      grant: (forMs) => this.#grant(forMs),
      recall: (afterMs) => {
        this.#owes = afterMs < Infinity;
        port.send({ type: "device_recalled", afterMs });
      },
    };
    this.exited = port.exited.then((exit) => {
      this.#leave();
      return exit;
    });
  }

  get deviceTurn(): "awaited" | "owed" | undefined {
    if (this.#place.arbiter.isWaiting(this.#seat)) return "awaited";
    return this.#owes ? "owed" : undefined;
  }

  send(command: EngineCommand): void {
    this.#port.send(command);
  }

  onEvent(receiver: (event: EngineEvent) => void): void {
    this.#port.onEvent((event) => {
      // Before anything else: others may be waiting.
      this.#note(event);
      receiver(event);
    });
  }

  kill(): void {
    this.#port.kill();
  }

  #note(event: EngineEvent): void {
    const { arbiter, hooks } = this.#place;
    const nowMs = hooks.nowMs();
    // The last words of a process may come late; and one whose memory has gone wrong may say anything.
    if (this.#gone) return;
    if (event?.type === "device_wanted") {
      if (arbiter.holder === this.#seat || arbiter.isWaiting(this.#seat)) return;
      this.#sinceMs = nowMs;
      arbiter.want(this.#seat, nowMs);
    } else if (event?.type === "device_freed") {
      if (arbiter.holder !== this.#seat) return;
      this.#noteHeld(nowMs);
      arbiter.free(this.#seat, event.again, nowMs);
    }
  }

  #grant(forMs: number): void {
    const { hooks, model } = this.#place;
    const nowMs = hooks.nowMs();
    hooks.onWaited(model, nowMs - this.#sinceMs);
    this.#sinceMs = nowMs;
    this.#owes = forMs < Infinity;
    this.#port.send({ type: "device_granted", forMs });
  }

  #noteHeld(nowMs: number): void {
    const { hooks, model } = this.#place;
    hooks.onHeld(model, nowMs - this.#sinceMs);
    this.#sinceMs = nowMs;
    this.#owes = false;
  }

  #leave(): void {
    this.#gone = true;
    const { arbiter, hooks } = this.#place;
    const nowMs = hooks.nowMs();
    if (arbiter.holder === this.#seat) this.#noteHeld(nowMs);
    arbiter.leave(this.#seat, nowMs);
  }
}
