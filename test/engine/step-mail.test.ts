/** When what steps have produced is sent, and as how many outputs. */
import { array, assert as check, boolean, constantFrom, property, record as recordOf } from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { StepMail } from "../../engine/step-mail.ts";
import { StepRecord } from "../../engine/step-record.ts";
import { planStep } from "../../engine/scheduler/plan-step.ts";
import { addRequest, schedulerState } from "../support/scheduler.ts";
import type { EngineEvent, StepOutput } from "../../engine/protocol.ts";
import type { PlannedCall } from "../../engine/scheduler/types.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["performance", "setTimeout", "clearTimeout"] }));
afterEach(() => void vi.useRealTimers());

const start = { slot: 0, cachedTokens: 0, queueMs: 0, prefillMs: 0, promptLogprobs: undefined };
const finish = { reason: "length", stopToken: undefined } as const;

function output(id: string, tokens: number[], more: Partial<StepOutput> = {}): StepOutput {
  return { id, tokens, logprobs: undefined, start: undefined, finish: undefined, ...more };
}

function decodeOf(sequences: number): PlannedCall {
  const entry = { request: "a", slot: 0, position: 0, tokens: new Uint32Array(1), sample: true };
  const entries = Array.from({ length: sequences }, () => entry);
  const times = { predictedMs: 0, unscaledMs: 0 };
  return { kind: "decode", entries, tokens: sequences, passes: 1, drafts: 0, ...times };
}

function mailing(gatherMs = 20) {
  const state = schedulerState();
  const record = new StepRecord(state);
  /** Of each message that has any. */
  const moves: unknown[] = [];
  const sent: StepOutput[][] = [];
  /** Sequences of the decode calls that each message tells of. */
  const reported: number[][] = [];
  const emit = (event: EngineEvent): void => {
    if (event.type !== "step") return;
    sent.push([...event.outputs]);
    if (event.moves !== undefined) moves.push(event.moves);
    reported.push([...(event.before ?? []), event.report].map(({ decodeSequences }) => decodeSequences));
  };
  const mail = new StepMail({ record, emit, gatherMs });
  /** A step has drawn, and the next call begins, which is expected to take so long. */
  const step = (outputs: StepOutput[], expectedMs: number): void => {
    if (outputs.length > 0) record.addCall(decodeOf(outputs.length), 1);
    for (const one of outputs) record.addOutput(one);
    mail.sendBeside(expectedMs);
  };
  return { sent, reported, moves, state, record, mail, step };
}

test("tokens that the next ones follow in time are sent with them, as one output", () => {
  const { sent, step } = mailing();
  step([output("a", [1]), output("b", [7])], 8);
  vi.advanceTimersByTime(8);
  step([output("a", [2])], 8);
  vi.advanceTimersByTime(8);
  expect(sent).toEqual([]);
  step([output("a", [3]), output("b", [8])], 8);
  expect(sent).toEqual([[output("a", [1, 2, 3]), output("b", [7, 8])]]);
  step([output("a", [4])], 8);
  expect(sent).toHaveLength(1);
});

test("at once where a call takes longer than they may wait, and where none may wait", () => {
  const slow = mailing();
  slow.step([output("a", [1])], 21);
  expect(slow.sent).toEqual([[output("a", [1])]]);
  const never = mailing(0);
  never.step([output("a", [1])], 0.1);
  expect(never.sent).toEqual([[output("a", [1])]]);
});

test("a call that takes longer than was expected holds up nothing", () => {
  const { sent, step } = mailing();
  step([output("a", [1])], 8);
  vi.advanceTimersByTime(19);
  expect(sent).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(sent).toEqual([[output("a", [1])]]);
  vi.advanceTimersByTime(100);
  expect(sent).toHaveLength(1);
});

test.for([
  ["a first token", output("b", [1], { start })],
  ["a last token", output("b", [1], { finish })],
  ["an end without tokens", output("b", [], { finish })],
  ["news of a prompt", output("b", [], { prefill: { cachedTokens: 0, computedTokens: 9, ms: 1 } })],
] as const)("%s does not wait, nor what waits already", ([, urgent]) => {
  const { sent, step } = mailing();
  step([output("a", [1])], 8);
  step([urgent, output("a", [2])], 8);
  expect(sent).toEqual([[output("a", [1, 2]), urgent]]);
});

test("who has got a slot is told beside a long call at once, and beside short ones with the next tokens or in time", () => {
  const plan = {
    ...planStep(schedulerState(), 0),
    assignments: [{ request: "a", slot: 0, reuse: 0, copyFrom: undefined }],
  };
  const moving = () => {
    const mailed = mailing();
    addRequest(mailed.state, "a");
    mailed.record.addMoves(plan);
    return mailed;
  };
  const moves = [{ id: "a", to: "prefill" }];
  const long = moving();
  long.step([], 21);
  expect(long.moves).toEqual([moves]);
  const short = moving();
  short.step([], 8);
  vi.advanceTimersByTime(8);
  expect(short.moves).toEqual([]);
  short.step([output("a", [1], { start })], 8);
  expect([short.moves, short.sent, short.reported]).toEqual([
    [moves],
    [[output("a", [1], { start })]],
    [[1]],
  ]);
  const slow = moving();
  slow.step([], 8);
  vi.advanceTimersByTime(19);
  expect(slow.moves).toEqual([]);
  vi.advanceTimersByTime(1);
  expect([slow.moves, slow.sent, slow.reported]).toEqual([[moves], [[]], [[0]]]);
});

test("who loses its slot to another one before its first token is told before that one, and who has a token of nothing", () => {
  const { state, record, mail, moves } = mailing();
  for (const id of ["a", "b", "c"]) addRequest(state, id, id === "c" ? { resume: new Uint32Array(1) } : {});
  record.addMoves({
    ...planStep(state, 0),
    evictions: [
      { kind: "class", request: "a", slot: 0, waiter: "b" },
      { kind: "share", request: "c", slot: 1, waiter: "d" },
    ],
    assignments: [{ request: "b", slot: 0, reuse: 0, copyFrom: undefined }],
  });
  mail.send();
  expect(moves).toEqual([
    [
      { id: "a", to: "queue" },
      { id: "b", to: "prefill" },
    ],
  ]);
  mail.send();
  expect(moves).toHaveLength(1);
});

test("what was guessed is told of each step, and so is what has log probabilities from what has none", () => {
  const { sent, mail, step } = mailing();
  const guessed = output("a", [2, 3], { guessed: 2 });
  const logprobs = [{ logprob: -1, top: [] }];
  const read = output("b", [4], { logprobs });
  step([output("a", [1]), read], 1);
  step([guessed, read], 1);
  step([output("a", [5]), output("b", [6])], 1);
  mail.send();
  expect(sent).toEqual([
    [
      output("a", [1]),
      output("b", [4, 4], { logprobs: [...logprobs, ...logprobs] }),
      guessed,
      output("a", [5]),
      output("b", [6]),
    ],
  ]);
});

test("every request gets its tokens in order, its first and its last at once, and none waits too long", () => {
  const tokens = array(
    recordOf({
      id: constantFrom("a", "b", "c"),
      guesses: boolean(),
      isFirst: boolean(),
      isLast: boolean(),
    }),
    { maxLength: 4 },
  );
  const steps = array(
    recordOf({ tokens, expectedMs: constantFrom(0, 1, 5, 30), ms: constantFrom(0, 1, 7, 60) }),
  );
  check(
    property(steps, (all) => {
      const { sent, mail, step } = mailing();
      const drawn: Record<string, number[]> = { a: [], b: [], c: [] };
      const arrived: Record<string, number[]> = { a: [], b: [], c: [] };
      const oldest = { ms: Infinity };
      let next = 0;
      const take = (): void => {
        for (const message of sent.splice(0)) {
          oldest.ms = Infinity;
          for (const { id, tokens: some } of message) arrived[id]?.push(...some);
        }
      };
      for (const { tokens: outputs, expectedMs, ms } of all) {
        const urgent = outputs.some(({ isFirst, isLast }) => isFirst || isLast);
        const made = outputs.map(({ id, guesses, isFirst, isLast }) => {
          const some = guesses ? [next++, next++] : [next++];
          drawn[id]?.push(...some);
          const guessed = guesses ? { guessed: 2 } : {};
          return output(id, some, {
            ...guessed,
            start: isFirst ? start : undefined,
            finish: isLast ? finish : undefined,
          });
        });
        if (made.length > 0) oldest.ms = Math.min(oldest.ms, performance.now());
        step(made, expectedMs);
        take();
        if (urgent) expect(arrived).toEqual(drawn);
        vi.advanceTimersByTime(ms);
        take();
        if (performance.now() - oldest.ms >= 20) expect(arrived).toEqual(drawn);
      }
      mail.send();
      take();
      expect(arrived).toEqual(drawn);
    }),
  );
});

test("each step has a report of its own, whatever its tokens waited for", () => {
  const { reported, step } = mailing();
  step([output("a", [1]), output("b", [7])], 8);
  vi.advanceTimersByTime(8);
  step([output("a", [2])], 8);
  vi.advanceTimersByTime(8);
  step([output("a", [3]), output("b", [8])], 8);
  step([output("a", [4])], 8);
  vi.advanceTimersByTime(20);
  expect(reported).toEqual([[2, 1, 2], [1]]);
});

test("what became of files and checkpoints is told with the time that it took, in the middle of which others are sent", () => {
  const { record, mail } = mailing();
  const reports: unknown[] = [];
  const take = (): void => {
    const event = record.takeStep();
    if (event?.type === "step") reports.push([event.report.spill?.saved, event.report.checkpoints?.taken]);
  };
  record.spill.saved += 1;
  record.checkpoints.taken += 1;
  record.addCall(decodeOf(1), 1);
  take();
  record.spill.saved += 1;
  record.spill.ms += 5;
  record.checkpoints.ms += 1;
  record.addCall(decodeOf(1), 1);
  take();
  record.addCall(decodeOf(1), 1);
  take();
  mail.send();
  expect(reports).toEqual([
    [undefined, undefined],
    [2, 1],
    [undefined, undefined],
  ]);
});

test("nothing is sent once the loop has ended", () => {
  const { sent, mail, step } = mailing();
  step([output("a", [1])], 8);
  mail.close();
  vi.advanceTimersByTime(100);
  expect(sent).toEqual([]);
});
