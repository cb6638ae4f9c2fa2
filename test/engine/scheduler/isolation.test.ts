/** No cell computed for one scope is ever read for another, whatever is copied, cut, paused, evicted or resumed. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { setPaused } from "../../../engine/scheduler/request-control.ts";
import type { SchedulerConfig, SchedulerState, StepPlan } from "../../../engine/scheduler/types.ts";
import { addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

const MOST_STEPS = 400;

/** Who computed each cell of each slot, found out from the plans alone. */
class Origins {
  readonly #cells: string[][];
  /** The same of each prefix in a file. */
  readonly #files = new Map<number, readonly string[]>();
  /** The same of each checkpoint. */
  readonly #checkpoints = new Map<number, readonly string[]>();
  /** Prefixes that were read from files, and slots that came back to checkpoints. */
  restored = 0;
  back = 0;
  /** Reads of cells of another scope, in words. */
  readonly crossings: string[] = [];
  /** Tokens that requests found computed. */
  reused = 0;

  constructor(slots: number) {
    this.#cells = Array.from({ length: slots }, () => []);
  }

  follow(plan: StepPlan, scopeOf: (id: string) => string): void {
    for (const { request, slot, reuse, copyFrom, restore, checkpoint } of plan.assignments) {
      this.reused += reuse;
      this.restored += restore === undefined ? 0 : 1;
      this.back += checkpoint === undefined ? 0 : 1;
      const held = restore === undefined ? this.#cells[copyFrom ?? slot] : this.#files.get(restore);
      const cells = checkpoint === undefined ? held : this.#checkpoints.get(checkpoint);
      const kept = (cells ?? []).slice(0, reuse);
      this.#check(kept, scopeOf(request), `${request} at its admission to slot ${slot}`);
    }
    for (const operation of plan.boundary) {
      if (operation.type === "copy") this.#cells[operation.to] = [...(this.#cells[operation.from] ?? [])];
      if (operation.type === "save")
        this.#files.set(operation.prefix.id, [...(this.#cells[operation.slot] ?? [])]);
      if (operation.type === "restore")
        this.#cells[operation.slot] = [...(this.#files.get(operation.prefix.id) ?? [])];
      if (operation.type === "checkpoint")
        this.#checkpoints.set(operation.checkpoint.id, [...(this.#cells[operation.slot] ?? [])]);
      if (operation.type === "rewind")
        this.#cells[operation.slot] = [...(this.#checkpoints.get(operation.checkpoint.id) ?? [])];
      if (operation.type === "forget") this.#checkpoints.delete(operation.checkpoint);
      if (operation.type === "drop") this.#files.delete(operation.spill);
      if (operation.type === "truncate") this.#cells[operation.slot]?.splice(operation.length);
    }
    for (const { entries } of plan.calls) {
      for (const { request, slot, position, tokens } of entries) {
        if (request === undefined) continue;
        const cells = this.#cells[slot] ?? [];
        const scope = scopeOf(request);
        if (cells.length < position) this.crossings.push(`${request} reads cells that nobody computed`);
        cells.splice(position);
        this.#check(cells, scope, `${request} at position ${position}`);
        for (let i = 0; i < tokens.length; i++) cells.push(scope);
      }
    }
  }

  #check(cells: readonly string[], scope: string, reader: string): void {
    const other = cells.find((cell) => cell !== scope);
    if (other !== undefined) this.crossings.push(`${reader}: ${scope} reads a cell of ${other}`);
  }
}

interface Planned {
  readonly scope: number;
  readonly family: number;
  readonly promptLength: number;
  readonly maxTokens: number;
  readonly atStep: number;
  readonly priority: number;
  /** Steps after its arrival at which it is paused, and for how long; undefined never. */
  readonly pause: readonly [after: number, steps: number] | undefined;
}

const planned: fc.Arbitrary<Planned> = fc.record({
  scope: fc.nat(2),
  family: fc.nat(1),
  promptLength: fc.integer({ min: 1, max: 60 }),
  maxTokens: fc.integer({ min: 1, max: 12 }),
  atStep: fc.nat(60),
  priority: fc.nat(3),
  pause: fc.option(fc.tuple(fc.nat(10), fc.integer({ min: 1, max: 20 })), { nil: undefined }),
});

function run(requests: readonly Planned[], state: SchedulerState): Origins {
  const origins = new Origins(state.slots.length);
  const scopeOf = (id: string): string => String(requests[Number(id)]?.scope);
  for (let step = 0; step < MOST_STEPS; step++) {
    for (const [i, request] of requests.entries()) {
      const id = String(i);
      if (request.atStep === step) {
        addRequest(state, id, {
          tenant: scopeOf(id),
          priority: request.priority,
          // The same words whoever asks.
          prompt: Uint32Array.from({ length: request.promptLength }, (_, at) => request.family * 100 + at),
          cacheKey: scopeOf(id),
          maxTokens: request.maxTokens,
        });
      }
      if (request.pause === undefined || !state.requests.has(id)) continue;
      const pausedAt = request.atStep + request.pause[0];
      if (pausedAt === step) setPaused(state, id, true, step * 10);
      if (pausedAt + request.pause[1] === step) setPaused(state, id, false, step * 10);
    }
    origins.follow(runStep(state, step * 10), scopeOf);
  }
  return origins;
}

describe("cells of a scope", () => {
  test("row 117: are read for that scope alone", () => {
    let [reused, restored, back] = [0, 0, 0];
    fc.assert(
      fc.property(
        fc.array(planned, { minLength: 2, maxLength: 12 }),
        fc.integer({ min: 1, max: 4 }),
        fc.boolean(),
        fc.constantFrom<Partial<SchedulerConfig>>(
          { canRewind: true },
          { canRewind: false },
          { canRewind: false, checkpoints: { needs: "none", bytes: 2000 } },
          { canRewind: false, checkpoints: { needs: "cells", bytes: 2000 } },
          { canRewind: false, checkpoints: { needs: "own-cells", bytes: 2000 }, windowTokens: 6 },
        ),
        fc.constantFrom(0, 500, 100_000),
        (requests, slots, deterministic, memory, spillBytes) => {
          const state = schedulerState({ slots, deterministic, ...memory, spillBytes });
          const origins = run(requests, state);
          reused += origins.reused;
          restored += origins.restored;
          back += origins.back;
          expect(origins.crossings).toEqual([]);
        },
      ),
      { numRuns: 150 },
    );
    // Within a scope there was something to be had.
    expect(reused).toBeGreaterThan(100);
    expect(restored).toBeGreaterThan(20);
    expect(back).toBeGreaterThan(20);
  });

  test("would be seen to be read for another one", () => {
    const state = schedulerState({ slots: 1 });
    const origins = new Origins(1);
    const scopes = ["a", "b"];
    for (const [i, scope] of scopes.entries()) {
      // Both say that they are of one scope, and are not.
      addRequest(state, String(i), { prompt: Uint32Array.from({ length: 40 }, (_, at) => at), maxTokens: 1 });
      for (let step = 0; step < 10; step++) {
        origins.follow(runStep(state, step), (id) => scopes[Number(id)] ?? scope);
      }
    }
    expect(origins.crossings.length).toBeGreaterThan(0);
  });
});
