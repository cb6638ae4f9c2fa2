/** How often what slots have lost is asked for again, and that saving it follows. */
import { describe, expect, test } from "vitest";
import { returnChance } from "../../../engine/scheduler/lost-prefixes.ts";
import type { LostPrefixes, SchedulerConfig, SchedulerState } from "../../../engine/scheduler/types.ts";
import { DRAWN, addRequest, runStep, schedulerState } from "../../support/scheduler.ts";

const withFiles = (config: Partial<SchedulerConfig> = {}): SchedulerState =>
  schedulerState({ slots: 4, contextTokens: 400, spillBytes: 100_000, ...config });

function lostOf({ spill }: SchedulerState): LostPrefixes {
  if (spill === undefined) throw new Error("nothing is kept in files");
  return spill.lost;
}

const chanceOf = (state: SchedulerState): number => returnChance(lostOf(state));

/** Nobody else's. */
let nextText = 1000;
function text(tokens: number): number[] {
  nextText += 1000;
  return Array.from({ length: tokens }, (_, i) => nextText + i);
}

interface Served {
  saves: number;
  restores: number;
}

/** Asks for all of these at once, each answered with five tokens, and runs until nothing is left to do; a second a step. */
class Clock {
  readonly state: SchedulerState;
  #nowMs = 0;

  constructor(state: SchedulerState) {
    this.state = state;
  }

  serve(prompts: readonly (readonly number[])[], cacheKey = ""): Served {
    const served = { saves: 0, restores: 0 };
    for (const prompt of prompts) {
      const id = `r${this.state.nextArrival}`;
      addRequest(this.state, id, { prompt: Uint32Array.from(prompt), maxTokens: 5, cacheKey }, this.#nowMs);
    }
    for (let step = 0; step < 2000 && this.state.requests.size > 0; step++) {
      const { cost } = this.state;
      const { boundary } = runStep(this.state, this.#nowMs);
      // All calls and files cost the same for ever.
      this.state.cost = cost;
      this.#nowMs += 1000;
      served.saves += boundary.filter(({ type }) => type === "save").length;
      served.restores += boundary.filter(({ type }) => type === "restore").length;
    }
    if (this.state.requests.size > 0) throw new Error("not all are served");
    return served;
  }

  /** As many by turns, each alone. */
  serveEach(prompts: readonly (readonly number[])[]): Served {
    const served = { saves: 0, restores: 0 };
    for (const prompt of prompts) {
      const { saves, restores } = this.serve([prompt]);
      served.saves += saves;
      served.restores += restores;
    }
    return served;
  }
}

const texts = (count: number, tokens = 50): number[][] => Array.from({ length: count }, () => text(tokens));
/** What is said next behind what was answered. */
const goOn = (prompt: readonly number[]): number[] => [
  ...prompt,
  ...Array<number>(5).fill(DRAWN),
  ...text(10),
];

describe("saving", () => {
  test("stops where nobody comes back, and begins again once some do", () => {
    const clock = new Clock(withFiles());
    // All that a slot loses, the first four slots having lost nothing.
    expect(clock.serveEach(texts(20)).saves).toBe(16);
    clock.serveEach(texts(130));
    expect(chanceOf(clock.state)).toBeLessThan(0.05);
    expect(clock.serveEach(texts(50))).toEqual({ saves: 0, restores: 0 });

    // Twelve conversations on four slots: first all first turns, then all second ones, and so on.
    let turns = texts(12);
    const rounds: Served[] = [];
    for (let round = 0; round < 5; round++) {
      rounds.push(clock.serveEach(turns));
      turns = turns.map(goOn);
    }
    // Nothing is found in the second, all of it from the fourth on.
    expect(rounds.map(({ saves }) => saves > 0)).toEqual([false, true, true, true, true]);
    expect(rounds.map(({ restores }) => restores)).toEqual([0, 0, expect.any(Number), 12, 12]);
    expect(chanceOf(clock.state)).toBeGreaterThan(0.2);
    clock.serveEach(texts(200));
    expect(chanceOf(clock.state)).toBeLessThan(0.1);
  });

  test.each([1, 4, 8])(
    "loses nothing of three conversations for each of %i slots that go on in turn",
    (slots) => {
      const clock = new Clock(withFiles({ slots }));
      let turns = texts(3 * slots);
      for (let round = 0; round < 6; round++) {
        const before = lostOf(clock.state).losses;
        const { saves, restores } = clock.serve(turns);
        // What is lost is saved, and read for the next turn.
        expect(saves).toBe(lostOf(clock.state).losses - before);
        expect(saves).toBeGreaterThanOrEqual(2 * slots);
        if (round > 0) expect(restores).toBeGreaterThanOrEqual(2 * slots);
        turns = turns.map(goOn);
      }
    },
  );

  test("stops of what only begins alike, however long that is", () => {
    const clock = new Clock(withFiles());
    const system = text(100);
    const asked = (count: number): number[][] => texts(count, 60).map((own) => [...system, ...own]);
    expect(clock.serveEach(asked(20)).saves).toBeGreaterThan(10);
    clock.serveEach(asked(130));
    expect(lostOf(clock.state).wanted).toBe(0);
    expect(clock.serveEach(asked(50)).saves).toBe(0);
  });
});

describe("what a slot has lost counts", () => {
  /** Loses one of these 50 tokens, and asks for something else then. */
  function afterLosing(prompt: readonly number[], next: readonly number[], cacheKey = ""): LostPrefixes {
    const clock = new Clock(withFiles({ slots: 1 }));
    clock.serve([prompt]);
    clock.serve([text(50)]);
    clock.serve([next], cacheKey);
    return lostOf(clock.state);
  }
  const prompt = text(50);

  test("as wanted where all that was asked is asked for again, with or without the answer", () => {
    for (const next of [goOn(prompt), [...prompt, ...text(20)], prompt])
      expect(afterLosing(prompt, next)).toMatchObject({ seen: 1, wanted: 1, losses: 2 });
  });

  test("as wanted though a template shows the answer's opening in another way", () => {
    const other = [...prompt.slice(0, 40), ...text(30)];
    expect(afterLosing(prompt, other)).toMatchObject({ seen: 1, wanted: 1 });
    // That is no more than sixteen tokens.
    const long = text(100);
    for (const [common, wanted] of [
      [83, 0],
      [84, 1],
    ] as const)
      expect(afterLosing(long, [...long.slice(0, common), ...text(30)])).toMatchObject({ wanted });
  });

  test("where its slot goes on with all that was asked, or its request loses the slot and waits again, not at all", () => {
    const state = withFiles({ slots: 1 });
    const clock = new Clock(state);
    addRequest(state, "long answer", { prompt: Uint32Array.from(prompt), maxTokens: 30 });
    clock.serve([]);
    // Another answer to the same question.
    clock.serve([[...prompt, ...text(20)]]);
    expect(state.slots[0]?.length).toBe(74);
    expect(lostOf(state)).toMatchObject({ losses: 0 });

    addRequest(state, "low", { prompt: Uint32Array.from(text(50)), priority: 3, maxTokens: 100 });
    for (let step = 0; step < 10; step++) runStep(state, 0);
    expect(lostOf(state)).toMatchObject({ losses: 1 });
    addRequest(state, "high", { prompt: Uint32Array.from(text(5)), priority: 0, maxTokens: 1 });
    expect(runStep(state, 0).evictions).toHaveLength(1);
    expect(lostOf(state)).toMatchObject({ losses: 1 });
  });

  test("not yet, for as long as four times as many are lost as there are slots, and not where it is another's", () => {
    expect(afterLosing(prompt, goOn(prompt), "others")).toMatchObject({ seen: 0, wanted: 0 });
    expect(afterLosing(prompt, [...prompt.slice(0, 30), ...text(30)])).toMatchObject({ seen: 0, wanted: 0 });
    const clock = new Clock(withFiles({ slots: 1 }));
    clock.serveEach(texts(5));
    expect(lostOf(clock.state)).toMatchObject({ losses: 4, seen: 0 });
    clock.serveEach(texts(1));
    expect(lostOf(clock.state)).toMatchObject({ losses: 5, seen: 1, wanted: 0 });
  });

  test("once for all choices of a request, and never where it is shorter than a cell", () => {
    const clock = new Clock(withFiles());
    clock.serve([prompt, prompt, prompt, prompt]);
    clock.serve(texts(4));
    expect(lostOf(clock.state)).toMatchObject({ losses: 1 });
    clock.serve([goOn(prompt), goOn(prompt)]);
    expect(lostOf(clock.state).wanted).toBe(1);
    const short = new Clock(withFiles());
    short.serveEach(texts(40, 4));
    expect(lostOf(short.state)).toMatchObject({ losses: 0 });
  });

  test("for as many as files may be, and the older ones for less", () => {
    const clock = new Clock(withFiles({ slots: 1, contextTokens: 100 }));
    clock.serveEach(texts(600, 10 + 5));
    const { kept, losses, seen } = lostOf(clock.state);
    expect([kept.size, losses]).toEqual([512, 599]);
    expect(seen).toBeGreaterThan(120);
    expect(seen).toBeLessThan(128);
  });

  test("for nothing before anything is seen", () => {
    expect(chanceOf(withFiles())).toBe(0.2);
    expect(schedulerState().spill).toBeUndefined();
  });
});
