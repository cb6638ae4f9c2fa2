/** The scenarios of the golden plans: few requests that come, go and change at given steps, each made to show one thing. */
import { DEFAULT_FAIRNESS } from "../../../engine/scheduler/owners.ts";
import { setPaused, setPriority } from "../../../engine/scheduler/request-control.ts";
import { cancel } from "../../../engine/scheduler/transitions.ts";
import type { NewRequest } from "../../../engine/scheduler/transitions.ts";
import type { FairnessConfig, OwnerPolicy } from "../../../engine/sharing.ts";
import type { CheckpointNeeds, SchedulerConfig, SchedulerState } from "../../../engine/scheduler/types.ts";
import { addRequest, DRAWN } from "../../support/scheduler.ts";

/** What a script can do before a step. */
interface Stage {
  readonly state: SchedulerState;
  readonly nowMs: number;
  /** Submits a request, of five tokens unless it says otherwise. */
  readonly add: (id: string, request?: Partial<NewRequest>) => void;
}

export interface Scenario {
  /** What it shows, for whoever reads the plans. */
  readonly about: string;
  readonly config?: Partial<SchedulerConfig>;
  readonly steps: number;
  /** What happens before a step, by its number. */
  readonly script: Readonly<Record<number, (stage: Stage) => void>>;
}

export function stageOf(state: SchedulerState, nowMs: number): Stage {
  return { state, nowMs, add: (id, request) => void addRequest(state, id, request, nowMs) };
}

const text = (first: number, tokens: number): Uint32Array =>
  Uint32Array.from({ length: tokens }, (_, i) => first + i);

const joined = (...texts: readonly Uint32Array[]): Uint32Array =>
  Uint32Array.from(texts.flatMap((tokens) => [...tokens]));

const drawn = (tokens: number): Uint32Array => new Uint32Array(tokens).fill(DRAWN);

function fairness(
  owners: Readonly<Record<string, Partial<OwnerPolicy>>>,
  more: Partial<FairnessConfig> = {},
): FairnessConfig {
  const { others } = DEFAULT_FAIRNESS;
  const policies = Object.entries(owners).map(([name, policy]) => [name, { ...others, ...policy }] as const);
  return { ...DEFAULT_FAIRNESS, owners: new Map(policies), ...more };
}

/** How prompts are computed. */
const PREFILL: Readonly<Record<string, Scenario>> = {
  "cold-prompts": {
    about:
      "While nobody decodes there is one cell a step, the oldest prompt's first; then each step has as many as fit.",
    config: { slots: 3 },
    steps: 9,
    script: {
      0: ({ add }) => {
        add("a", { prompt: text(1, 22), maxTokens: 6 });
        add("b", { prompt: text(500, 14), maxTokens: 3 });
        add("c", { prompt: text(900, 12), maxTokens: 3 });
      },
    },
  },
  "long-beside-short": {
    about: "A long prompt beside two streams: both decode in every step, and as many cells as fit follow.",
    config: { slots: 3 },
    steps: 10,
    script: {
      0: ({ add }) => {
        add("short", { maxTokens: 9 });
        add("other", { maxTokens: 4 });
      },
      2: ({ add }) => add("long", { prompt: text(50_000, 75), maxTokens: 2 }),
    },
  },
  "prefill-credit": {
    about: "No cell fits between two tokens: room is saved up until one is paid for.",
    config: { slots: 2, itlTargetMs: 25 },
    steps: 12,
    script: {
      0: ({ add }) => add("stream", { maxTokens: 20 }),
      2: ({ add }) => add("long", { prompt: text(500, 35), maxTokens: 1 }),
    },
  },
  "prompts-in-turn": {
    about:
      "Three prompts of one owner and one of another: the other's waits for the one that has begun at most.",
    config: { slots: 4 },
    steps: 8,
    script: {
      0: ({ add }) => {
        for (let i = 0; i < 3; i++)
          add(`many${i}`, { tenant: "many", prompt: text(500 * i, 21), maxTokens: 2 });
        add("few", { tenant: "few", prompt: text(5000, 21), maxTokens: 2 });
      },
    },
  },
  resumed: {
    about:
      "A request that goes on in a new engine: its prompt in the cells of a new one, its output in cells of its own.",
    config: { slots: 2 },
    steps: 6,
    script: {
      0: ({ add }) => add("resumed", { prompt: text(1, 25), resume: drawn(24), maxTokens: 26 }),
      3: ({ add }) => add("new", { prompt: text(1, 25), maxTokens: 1 }),
    },
  },
  "prompt-logprobs": {
    about:
      "A prompt whose logits are all read reuses nothing, and its cells are taken to cost twice as much.",
    config: { slots: 2 },
    steps: 6,
    script: {
      0: ({ add }) => add("stream", { maxTokens: 20 }),
      2: ({ add }) =>
        add("scored", { prompt: text(500, 35), readsPrompt: true, reusePrefix: false, maxTokens: 1 }),
    },
  },
};

/** What is not computed again. */
const REUSE: Readonly<Record<string, Scenario>> = {
  "shared-prefix": {
    about:
      "Three prompts that begin alike come together: one is computed, the others wait for its cells and copy them.",
    config: { slots: 3 },
    steps: 7,
    script: {
      0: ({ state, add }) => {
        for (const id of ["a", "b", "c"])
          add(id, { prompt: joined(text(1, 30), text(1000 * state.nextArrival + 500, 6)), maxTokens: 2 });
      },
    },
  },
  choices: {
    about:
      "One prompt asked for five times on two slots is computed once; the later ones have nothing left to compute.",
    config: { slots: 2 },
    steps: 12,
    script: {
      0: ({ add }) => {
        for (let i = 0; i < 5; i++) add(`choice${i}`, { prompt: text(1, 25), maxTokens: 3 });
      },
    },
  },
  "leader-cancelled": {
    about: "Who computes a prefix that others wait for is cancelled: the next one goes on from its cells.",
    config: { slots: 3 },
    steps: 7,
    script: {
      0: ({ add }) => {
        for (const id of ["leader", "second", "third"]) add(id, { prompt: text(1, 45), maxTokens: 2 });
      },
      2: ({ state, nowMs }) => cancel(state, "leader", nowMs),
    },
  },
  "two-turns": {
    about:
      "A conversation goes on: its cells and those of its answer are kept but for the last token, which was never computed.",
    config: { slots: 2 },
    steps: 8,
    script: {
      0: ({ add }) => add("first", { prompt: text(1, 24), maxTokens: 3 }),
      6: ({ add }) => add("second", { prompt: joined(text(1, 24), drawn(3), text(900, 5)), maxTokens: 1 }),
    },
  },
  "copied-from-busy": {
    about: "A prefix is copied from a stream that goes on undisturbed.",
    config: { slots: 2 },
    steps: 8,
    script: {
      0: ({ add }) => add("busy", { prompt: text(1, 40), maxTokens: 20 }),
      5: ({ add }) => add("alike", { prompt: joined(text(1, 30), text(900, 9)), maxTokens: 2 }),
    },
  },
  "prefix-first": {
    about: "Of one owner those with a prefix in the slot go first, past the same one four times at most.",
    config: { slots: 1 },
    steps: 20,
    script: {
      0: ({ add }) => {
        add("first", { prompt: joined(text(1, 40), text(100, 5)), maxTokens: 1 });
      },
      6: ({ add }) => {
        add("cold", { prompt: text(5000, 11), maxTokens: 1 });
        for (let i = 0; i < 6; i++)
          add(`warm${i}`, { prompt: joined(text(1, 40), text(200 + 10 * i, 5)), maxTokens: 1 });
      },
    },
  },
  "cannot-rewind": {
    about: "A recurrent model: a slot is reused as a whole or not at all, and no gap is closed.",
    config: { slots: 3, canRewind: false },
    steps: 15,
    script: {
      0: ({ add }) => {
        add("a", { prompt: text(1, 20), maxTokens: 12 });
        add("b", { prompt: text(500, 15), maxTokens: 2 });
        add("c", { prompt: text(900, 5), maxTokens: 12 });
      },
      8: ({ add }) => add("goes on", { prompt: joined(text(500, 15), drawn(1), text(700, 4)), maxTokens: 1 }),
      11: ({ add }) => add("changed", { prompt: joined(text(500, 15), text(800, 6)), maxTokens: 1 }),
    },
  },
  deterministic: {
    about: "Outputs must not depend on anybody: reuse ends at the grid, and nobody decodes alone in a pass.",
    config: { slots: 3, deterministic: true },
    steps: 10,
    script: {
      0: ({ add }) => add("first", { prompt: text(1, 27), maxTokens: 2 }),
      6: ({ add }) => add("alike", { prompt: joined(text(1, 26), text(900, 5)), maxTokens: 3 }),
    },
  },
};

/** Who gets a slot, and who loses one. */
const SHARING: Readonly<Record<string, Scenario>> = {
  "more-than-slots": {
    about: "Seven requests of one owner on two slots, in order of arrival.",
    config: { slots: 2 },
    steps: 11,
    script: {
      0: ({ add }) => {
        for (let i = 0; i < 7; i++) add(`r${i}`, { maxTokens: 1 + (i % 3) });
      },
    },
  },
  "few-beside-many": {
    about: "One owner has all slots and a line: another one's two requests get their share, and no more.",
    config: { slots: 4 },
    steps: 12,
    script: {
      0: ({ add }) => {
        for (let i = 0; i < 6; i++) add(`many${i}`, { tenant: "many", maxTokens: 60 });
      },
      4: ({ add }) => {
        for (let i = 0; i < 3; i++) add(`few${i}`, { tenant: "few", maxTokens: 8 });
      },
    },
  },
  "weights-and-caps": {
    about: "An owner of weight 3 and one that may have one slot, each with a line.",
    config: {
      slots: 2,
      fairness: fairness({ heavy: { weight: 3 }, capped: { maxRunning: 1 } }, { evict: false }),
    },
    steps: 16,
    script: {
      0: ({ add }) => {
        for (let i = 0; i < 6; i++) {
          add(`capped${i}`, { tenant: "capped", maxTokens: 2 });
          add(`heavy${i}`, { tenant: "heavy", maxTokens: 2 });
        }
      },
    },
  },
  "higher-class": {
    about:
      "A higher class takes the slot that is cheapest to compute again; its request goes on behind its output.",
    config: { slots: 2, fairness: fairness({}, { agingQuantumMs: 1e6 }) },
    steps: 12,
    script: {
      0: ({ add }) => {
        add("low0", { priority: 2, maxTokens: 150 });
        add("low1", { priority: 2, maxTokens: 8 });
      },
      3: ({ add }) => add("high", { priority: 0, maxTokens: 2 }),
    },
  },
  aging: {
    about:
      "A request of the lowest class waits for a quantum and competes with the class above, and so on, until it is served.",
    config: { slots: 1, fairness: fairness({}, { agingQuantumMs: 60, evict: false }) },
    steps: 20,
    script: {
      0: ({ add }) => {
        add("background", { tenant: "patient", priority: 3, maxTokens: 1 });
        for (let i = 0; i < 12; i++) add(`normal${i}`, { priority: 1, maxTokens: 1 });
      },
    },
  },
  "class-changed": {
    about:
      "A waiting request is moved up and another one down: they keep their places by arrival in their new classes.",
    config: { slots: 1 },
    steps: 12,
    script: {
      0: ({ add }) => {
        for (const id of ["running", "stays", "up", "down"]) add(id, { maxTokens: 2 });
        add("high", { priority: 0, maxTokens: 1 });
      },
      1: ({ state }) => {
        setPriority(state, "up", 0);
        setPriority(state, "stays", 2);
      },
    },
  },
  "cancel-and-pause": {
    about: "One is cancelled while it runs, one waits paused until it is resumed.",
    config: { slots: 2 },
    steps: 8,
    script: {
      0: ({ state, add }) => {
        for (const id of ["kept", "gone", "paused", "last"]) add(id, { maxTokens: 4 });
        setPaused(state, "paused", true, 0);
      },
      2: ({ state, nowMs }) => cancel(state, "gone", nowMs),
      4: ({ state, nowMs }) => void setPaused(state, "paused", false, nowMs),
    },
  },
  "paused-gives-way": {
    about:
      "Who is paused keeps its slot while nobody needs it, loses it to who does, and computes its cells again.",
    config: { slots: 1 },
    steps: 13,
    script: {
      0: ({ add }) => add("paused", { maxTokens: 8 }),
      4: ({ state, nowMs }) => void setPaused(state, "paused", true, nowMs),
      6: ({ add }) => add("other", { maxTokens: 2 }),
      8: ({ state, nowMs }) => void setPaused(state, "paused", false, nowMs),
    },
  },
};

const memory = (needs: CheckpointNeeds): Partial<SchedulerConfig> => ({
  canRewind: false,
  checkpoints: { needs, bytes: 10_000 },
});

/** Models that cannot take tokens back. */
const CHECKPOINTS: Readonly<Record<string, Scenario>> = {
  "state-of-a-prompt": {
    about:
      "A recurrent state is kept where its prompt stops: the same prompt, and another turn, come back to it, in any slot.",
    config: { ...memory("none"), slots: 1 },
    steps: 18,
    script: {
      0: ({ add }) => add("first", { prompt: text(1, 42), maxTokens: 2 }),
      7: ({ add }) => add("other", { prompt: text(500, 12), maxTokens: 1 }),
      10: ({ add }) => add("again", { prompt: text(1, 42), maxTokens: 2 }),
      13: ({ add }) => add("turn", { prompt: joined(text(1, 39), text(900, 20)), maxTokens: 1 }),
    },
  },
  "state-and-cells": {
    about:
      "Prompts that open alike come together: the first stops where they part, the others copy its cells and go back there.",
    config: { ...memory("cells"), slots: 3 },
    steps: 14,
    script: {
      0: ({ add }) => {
        for (const [i, id] of ["a", "b", "c"].entries())
          add(id, { prompt: joined(text(1, 34), text(500 + 100 * i, 20)), maxTokens: 3 });
      },
    },
  },
  "state-in-its-window": {
    about: "What a window has left behind comes back into its own slot alone.",
    config: { ...memory("own-cells"), windowTokens: 5, batchTokens: 10, slots: 2 },
    steps: 16,
    script: {
      0: ({ add }) => add("first", { prompt: text(1, 42), maxTokens: 12 }),
      6: ({ add }) => add("beside", { prompt: text(1, 42), maxTokens: 2 }),
      14: ({ add }) => add("again", { prompt: text(1, 30), maxTokens: 2 }),
    },
  },
};

/** How slots are decoded together. */
const DECODE: Readonly<Record<string, Scenario>> = {
  "gaps-closed": {
    about:
      "Two of four neighbours end: the gap between the others is closed with throw-away tokens, and one pass is left.",
    config: { slots: 4 },
    steps: 6,
    script: {
      0: ({ add }) => {
        for (const id of ["r0", "r1", "r2", "r3"]) add(id, { maxTokens: id === "r1" || id === "r2" ? 1 : 6 });
      },
    },
  },
  "gap-of-a-long-slot": {
    about:
      "The gap holds more cells than its neighbours and stays open; a newcomer takes it where that saves a pass.",
    config: { slots: 3 },
    steps: 13,
    script: {
      0: ({ add }) => {
        add("left", { maxTokens: 12 });
        add("long", { prompt: text(500, 60), maxTokens: 1 });
        add("right", { maxTokens: 12 });
      },
      10: ({ add }) => add("newcomer", { prompt: text(9000, 3), maxTokens: 3 }),
    },
  },
  guesses: {
    about:
      "Outputs repeat themselves and guesses come true: more of them are made, in both slots as many, up to the last token.",
    config: { slots: 2, speculate: true },
    steps: 9,
    script: {
      0: ({ add }) => {
        add("a", { prompt: text(1, 4), maxTokens: 30 });
        add("b", { prompt: text(500, 4), maxTokens: 22 });
      },
    },
  },
  "predicted-output": {
    about:
      "What the client predicts is guessed from the first token on; where it is wrong the cells are taken back.",
    config: { slots: 1, speculate: true },
    steps: 4,
    script: {
      0: ({ add }) => {
        const predicted = joined(text(3, 2), drawn(5), text(300, 1), drawn(8));
        add("edit", { prompt: text(1, 4), predicted, maxTokens: 20 });
      },
    },
  },
  "two-adapters": {
    about:
      "A call computes with one set of adapters: two sets take turns, each long enough for the change to be worth it.",
    config: { slots: 4 },
    steps: 16,
    script: {
      0: ({ state, add }) => {
        state.cost = { ...state.cost, switchMs: 3 };
        const adapters = { key: "pirate*1", uses: [{ adapter: 0, scale: 1 }] };
        for (const [id, tokens] of Object.entries({ base0: 12, base1: 3, tuned0: 12, tuned1: 5 })) {
          const tuned = id.startsWith("tuned") ? { adapters, cacheKey: adapters.key } : {};
          add(id, { prompt: text(1, 15), maxTokens: tokens, ...tuned });
        }
      },
    },
  },
};

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  ...PREFILL,
  ...REUSE,
  ...SHARING,
  ...CHECKPOINTS,
  ...DECODE,
};
