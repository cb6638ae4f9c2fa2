/** Whose embeddings are computed next, and whose are refused. */
import { expect, test } from "vitest";
import { EmbeddingTurns } from "../../engine/embedding-turns.ts";
import { DEFAULT_FAIRNESS } from "../../engine/scheduler/owners.ts";
import { DEFAULT_POLICY, PriorityClass } from "../../engine/sharing.ts";
import type { OwnerPolicy } from "../../engine/sharing.ts";

const { normal, low } = PriorityClass;

function turnsOf(owners: Readonly<Record<string, Partial<OwnerPolicy>>> = {}): EmbeddingTurns {
  const policies = Object.entries(owners).map(
    ([name, policy]) => [name, { ...DEFAULT_POLICY, ...policy }] as const,
  );
  return new EmbeddingTurns({ ...DEFAULT_FAIRNESS, owners: new Map(policies), agingQuantumMs: 1000 });
}

/** Who has so many turns of 10 ms each, one after the other. */
function turnsTaken(turns: EmbeddingTurns, calls: readonly string[], count: number): string[] {
  let open = calls.map((owner) => ({ owner, turn: turns.add(owner, normal, 0) }));
  return Array.from({ length: count }, () => {
    const next = turns.next(open, 0);
    if (next === undefined) throw new Error("nobody is left");
    turns.charge(next.turn, 10);
    open = [...open.filter((one) => one !== next), next];
    return next.owner;
  });
}

test("owners get the same time, however many calls they have, and by weight", () => {
  const calls = ["many", "many", "many", "many", "few"];
  expect(turnsTaken(turnsOf(), calls, 8).filter((owner) => owner === "few")).toHaveLength(4);
  const heavy = turnsTaken(turnsOf({ few: { weight: 3 } }), calls, 8);
  expect(heavy.filter((owner) => owner === "few")).toHaveLength(6);
});

test("who comes later owes nothing and has nothing saved up", () => {
  const turns = turnsOf();
  turnsTaken(turns, ["early"], 10);
  expect(turnsTaken(turns, ["late", "early"], 4)).toEqual(["early", "late", "early", "late"].toReversed());
});

test("a higher class goes first, until the other one has waited for a quantum", () => {
  const turns = turnsOf();
  const open = [{ turn: turns.add("a", low, 0) }, { turn: turns.add("b", normal, 0) }];
  for (const { turn } of open.slice(1)) turns.charge(turn, 5);
  expect(turns.next(open, 999)).toBe(open[1]);
  // By then it has had less, too.
  const aged = open.map(({ turn }, i) => ({ turn: { ...turn, sinceMs: i === 0 ? 0 : 1000 } }));
  expect(turns.next(aged, 1000)).toBe(aged[0]);
});

test("an owner's calls and tokens are bounded, with the time of the last ones to come back after", () => {
  const turns = turnsOf({ a: { maxQueued: 1, maxQueuedTokens: 100 } });
  const [first, second] = [turns.add("a", normal, 0), turns.add("a", normal, 0)];
  const limits = { limit: 1, requests: 2, requestsLeft: 0, tokens: 100, tokensLeft: 100 };
  expect(() => turns.add("a", normal, 0)).toThrow(
    expect.objectContaining({ code: "owner_queue_full", details: expect.objectContaining(limits) }),
  );
  turns.add("b", normal, 0);
  turns.count(first, 500, 0);
  // What is refused is not open beside the other one.
  expect(() => turns.count(second, 1, 0)).toThrow(
    expect.objectContaining({
      code: "owner_tokens_exceeded",
      details: expect.objectContaining({ limit: 100, requestsLeft: 1, requestsResetMs: 2000 }),
    }),
  );
  turns.remove(first, true, 400);
  turns.count(second, 1, 400);
  turns.add("a", normal, 400);
  // The owners have their ends in turns, one in 400 ms.
  expect(() => turns.add("a", normal, 400)).toThrow(
    expect.objectContaining({ details: expect.objectContaining({ retryAfterMs: 800 }) }),
  );
  // One that has been computed for longer than that is not about to end.
  expect(() => turns.add("a", normal, 1500)).toThrow(
    expect.objectContaining({ details: expect.objectContaining({ retryAfterMs: 1100 }) }),
  );
  expect(turns.retryAfterMs(1e9, 1500)).toBe(600_000);
});

test("a call that is taken back before its inputs are counted counts for nothing", () => {
  const turns = turnsOf({ a: { maxQueuedTokens: 100 } });
  const [stays, leaves] = [turns.add("a", normal, 0), turns.add("a", normal, 0)];
  turns.count(stays, 40, 0);
  turns.remove(leaves, false, 0);
  turns.count(leaves, 50, 0);
  expect(() => turns.count(turns.add("a", normal, 0), 60, 0)).not.toThrow();
});
