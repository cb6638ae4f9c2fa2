import { describe, expect, test } from "vitest";
import type { RequestRecord } from "../../../bench/client.ts";
import { capacityOf, judgeRefusals, overload, rampMs } from "../../../bench/scenarios/overload.ts";
import { runUsers } from "../../../bench/scenarios/returning-users.ts";
import type { Visit } from "../../../bench/scenarios/returning-users.ts";
import type { ManualClock } from "../manual-clock.ts";
import { fakeTurn, recordOf } from "./fake-turn.ts";

/** Moves the clock on whenever nothing else happens. */
async function drive<T>(clock: ManualClock, work: Promise<T>, stepMs: number): Promise<T> {
  const ended = work.then(() => true);
  const idle = (): Promise<false> => new Promise((resolve) => setImmediate(() => resolve(false)));
  while (!(await Promise.race([ended, idle()]))) clock.advance(stepMs);
  return work;
}

function refused(startMs: number, retryAfterMs: number | undefined): RequestRecord {
  return recordOf(startMs, [], { error: { kind: "http_503", message: "queue is full" }, retryAfterMs });
}

describe("users", () => {
  const plan = {
    arrivalMs: (user: number) => 100 * user,
    durationMs: 250,
    patienceMs: 1000,
    request: (user: number) => ({ prompt: `u${user}`, outputTokens: 1, seed: 0, timeoutMs: 1 }),
  };

  test("come when it is time, and come back when they are told, until they are let in", async () => {
    const { turn, clock, sent } = fakeTurn(({ prompt }, _, time) => {
      const first = prompt === "u1" && sent.filter((request) => request.prompt === "u1").length === 1;
      return first ? refused(time.nowMs(), 300) : recordOf(time.nowMs(), [time.nowMs()]);
    });
    const { visits } = await drive(clock, runUsers(turn, plan), 10);
    expect(sent.map(({ prompt, headers }) => [prompt, headers])).toEqual([
      ["u0", {}],
      ["u1", {}],
      ["u2", {}],
      ["u1", { "x-stainless-retry-count": "1" }],
    ]);
    expect(
      visits.map(({ arrivalMs, refusals, answer }) => [arrivalMs, refusals.length, answer?.startMs]),
    ).toEqual([
      [0, 0, 0],
      [100, 1, 400],
      [200, 0, 200],
    ]);
  });

  test("do not come back when they are not told, or would have to wait for too long", async () => {
    const { turn, clock, sent } = fakeTurn(({ prompt }, _, time) =>
      refused(time.nowMs(), prompt === "u0" ? undefined : 900),
    );
    const { visits } = await drive(clock, runUsers(turn, plan), 10);
    // The second one is told 900 ms at 100 ms: it comes back at 1,000 and is told once more.
    expect(sent.map(({ prompt }) => prompt)).toEqual(["u0", "u1", "u2", "u1"]);
    expect(visits.map(({ answer }) => answer)).toEqual([undefined, undefined, undefined]);
  });

  test("whose request fails in another way do not come back", async () => {
    const error = { kind: "http_504", message: "too late" } as const;
    const { turn, clock, sent } = fakeTurn(() => recordOf(0, [], { error }));
    await drive(clock, runUsers(turn, plan), 10);
    expect(sent).toHaveLength(3);
  });

  test("who are told to come back at once do so after 100 ms, and so on until they have lost patience", async () => {
    const { turn, clock, sent } = fakeTurn((_, __, time) => refused(time.nowMs(), 0));
    const one = { ...plan, durationMs: 50 };
    const { visits, arrivedMs } = await drive(clock, runUsers(turn, one), 10);
    expect(visits[0]?.refusals.map(({ atMs }) => atMs)).toEqual([
      0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000,
    ]);
    expect(sent).toHaveLength(11);
    expect(arrivedMs).toBe(50);
  });

  test("have 1,024 requests open at most; others wait until one ends, or until nobody comes back", async () => {
    let [open, most] = [0, 0];
    const { turn, clock, sent } = fakeTurn(async (_, __, time) => {
      const startMs = time.nowMs();
      most = Math.max(most, ++open);
      await new Promise<void>((resolve) => void time.after(600, resolve));
      open -= 1;
      return recordOf(startMs, [time.nowMs()]);
    });
    const crowd = { ...plan, arrivalMs: (user: number) => user / 20, durationMs: 200 };
    const { visits, held } = await drive(clock, runUsers(turn, crowd), 50);
    expect([most, held, visits.length]).toEqual([1024, 4000 - 1024, 4000]);
    // Two waves begin before 1,000 ms have passed.
    expect(sent).toHaveLength(2048);
    expect(visits.filter(({ answer }) => answer !== undefined)).toHaveLength(2048);
  });

  test("are 100,000 at most, and have then arrived sooner", async () => {
    const { turn, clock } = fakeTurn((_, __, time) => recordOf(time.nowMs(), [time.nowMs()]));
    const crowd = { ...plan, arrivalMs: (user: number) => Math.floor(user / 1000) };
    const { visits, arrivedMs } = await drive(clock, runUsers(turn, crowd), 10);
    expect(visits).toHaveLength(100_000);
    expect(arrivedMs).toBe(100);
  });
});

test("capacity is taken between the first and the last wave of ends before the last start", () => {
  // Two clients: starts at 0 0 100 150 200 250, ends 100 later or 150.
  const records = [
    recordOf(0, [100]),
    recordOf(0, [150]),
    recordOf(100, [200]),
    recordOf(150, [250]),
    recordOf(200, [900]),
    recordOf(250, [900]),
  ];
  // Ends at 100 and 150 are the first wave, those at 200 and 250 the second.
  expect(capacityOf(records, 2)).toBe(20);
  expect(capacityOf([recordOf(0, [100])], 1)).toBeUndefined();
  expect(capacityOf([], 8)).toBeUndefined();
  // A first wave alone tells no rate.
  expect(capacityOf(records.slice(0, 4), 2)).toBeUndefined();
});

test("clients in lock-step are counted by the wave", () => {
  // Eight clients a millisecond apart, 8.5 s a request, for 30 s: waves start at 0, 8.5, 17 and 25.5 s.
  const records = [0, 8500, 17_000, 25_500].flatMap((waveMs) =>
    Array.from({ length: 8 }, (_, client) => recordOf(waveMs + client, [waveMs + client + 8500])),
  );
  expect(capacityOf(records, 8)).toBeCloseTo(8 / 8.5, 10);
});

test("waves that draw together are no faster for it", () => {
  // Four clients whose first answers come a second apart, and whose later ones come together, every four seconds.
  const first = [4000, 5000, 6000, 7000].map((ms) => recordOf(0, [ms]));
  const second = [4000, 5000, 6000, 7000].map((ms) => recordOf(ms, [9500]));
  const third = Array.from({ length: 4 }, () => recordOf(9500, [13_500]));
  const fourth = Array.from({ length: 4 }, () => recordOf(13_500, [17_500]));
  expect(capacityOf([...first, ...second, ...third, ...fourth], 4)).toBeCloseTo(1, 10);
});

test("what failed is no capacity", () => {
  const error = { kind: "http_500", message: "broken" } as const;
  const records = [0, 100, 200, 300, 400].map((startMs, index) =>
    recordOf(startMs, [startMs + 100], index === 2 ? { error } : {}),
  );
  // Ends at 100, 200 and 400: two in 300 ms after the first.
  expect(capacityOf(records, 1)).toBeCloseTo(2 / 0.3, 10);
});

describe("a refusal", () => {
  const visit = (arrivalMs: number, letInMs: number | undefined, ...refusals: [number, number][]): Visit => ({
    arrivalMs,
    refusals: refusals.map(([atMs, toldMs]) => ({ sentMs: atMs - 2, atMs, toldMs })),
    answer: letInMs === undefined ? undefined : recordOf(letInMs, [letInMs]),
  });

  test("is right when the user was let in within 30 % of what it was told", () => {
    const visits = [visit(0, 1000, [0, 700], [900, 60]), visit(0, 1000, [0, 1300]), visit(0, 1000, [0, 690])];
    expect(judgeRefusals(visits)).toMatchObject({ count: 4, decided: 4, right: 2, untold: 0 });
  });

  test("is undecided while its user might still have been let in in time, and wrong after that", () => {
    // Who was refused once more at 1,000 had not been let in until then, and was not seen afterwards.
    expect(judgeRefusals([visit(0, undefined, [0, 710], [1000, 500])])).toMatchObject({
      decided: 0,
      right: 0,
    });
    expect(judgeRefusals([visit(0, undefined, [0, 690], [1000, 500])])).toMatchObject({
      decided: 1,
      right: 0,
    });
  });

  test("is undecided when nobody came back to see, however long others went on", () => {
    const visits = [visit(0, undefined, [0, 690]), visit(0, 60_000, [59_000, 1000])];
    expect(judgeRefusals(visits)).toMatchObject({ count: 2, decided: 1, right: 1 });
  });

  test.each(["connection", "http_500", "timeout"] as const)(
    "is undecided when its user came back and met with %s, and nobody was overtaken by that",
    (kind) => {
      const failed = (arrivalMs: number, atMs: number, ...refusals: [number, number][]): Visit => ({
        ...visit(arrivalMs, undefined, ...refusals),
        answer: recordOf(atMs, [], { error: { kind, message: "" } }),
      });
      expect(judgeRefusals([failed(0, 1000, [0, 1000])])).toMatchObject({
        decided: 0,
        right: 0,
        tookMs: { count: 0 },
      });
      expect(judgeRefusals([visit(0, 1000, [10, 900]), failed(5, 500)])).toMatchObject({ overtaken: 0 });
    },
  );

  test("is decided by a stream that broke: its user had been let in", () => {
    const error = { kind: "connection", message: "reset" } as const;
    const broken = { ...visit(0, undefined, [0, 1000]), answer: recordOf(1000, [1100], { error }) };
    expect(judgeRefusals([broken])).toMatchObject({ decided: 1, right: 1 });
  });

  test("is overtaken when a user was let in before its time who came later", () => {
    const early = visit(0, 1000, [10, 900]);
    expect(judgeRefusals([early, visit(5, 500)])).toMatchObject({ overtaken: 1 });
    // Who came before, who was let in before the refusal, and who was let in after the told time.
    expect(judgeRefusals([early, visit(-5, 500), visit(5, 6), visit(5, 950)])).toMatchObject({
      overtaken: 0,
    });
  });
});

test("goodput is what ended in time while users came, as a share of capacity", async () => {
  const plan = overload.plan({
    overload: 2,
    duration: 10_000,
    concurrency: 2,
    isl: 4,
    osl: 3,
    ttft: 100,
    itl: 100,
  });
  // One request at a time for a client takes 200 ms: 10 a second of two clients. Users find every other place taken.
  let users = 0;
  const { turn, clock, sent } = fakeTurn(async ({ headers }, _, time) => {
    const startMs = time.nowMs();
    const isUser = headers !== undefined;
    if (isUser && headers["x-stainless-retry-count"] === undefined && ++users % 2 === 0)
      return refused(startMs, 30_000);
    await new Promise<void>((resolve) => void time.after(200, resolve));
    // Every tenth user waits for its first token for too long.
    const firstMs = isUser && users % 10 === 1 ? startMs + 150 : startMs + 50;
    return recordOf(startMs, [firstMs, startMs + 180, startMs + 200]);
  });
  const { figures, summary, errors } = await drive(clock, plan.run(turn), 50);
  expect(errors).toEqual([]);
  expect(figures["capacity req/s"]).toBeCloseTo(10, 0);
  // Twenty users a second come, ten are let in, eight are served in time.
  expect(figures["goodput / capacity"]).toBeGreaterThan(0.6);
  expect(figures["goodput / capacity"]).toBeLessThan(1);
  expect(summary).toMatchObject({
    goodputRequestsPerSecond: figures["goodput req/s"],
    refusals: { untold: 0 },
  });
  // By vLLM's definition over the whole run: none of the users within it is left out, and neither is its end.
  expect(summary["request_goodput"]).toBeGreaterThan(0);
  expect(summary["request_goodput"]).toBeLessThan(Number(figures["goodput req/s"]));
  expect(sent.filter(({ headers }) => headers?.["x-request-ttft-deadline-ms"] === "100").length).toBe(users);
});

test("the time in which the first requests cannot have ended yet is not counted", async () => {
  const plan = overload.plan({ overload: 100, duration: 20_000, concurrency: 4, isl: 4, osl: 3, itl: 4000 });
  // Whoever comes is served, in four seconds: so many end a second as come, but for the first four seconds.
  const { turn, clock } = fakeTurn(async (_, __, time) => {
    const startMs = time.nowMs();
    await new Promise<void>((resolve) => void time.after(4000, resolve));
    return recordOf(startMs, [startMs + 100, time.nowMs()]);
  });
  const { figures } = await drive(clock, plan.run(turn), 50);
  expect(figures["capacity req/s"]).toBeCloseTo(1, 1);
  expect(figures["goodput / capacity"]).toBeGreaterThan(94);
});

test("a time that only fills the server says nothing of goodput", () => {
  const served = recordOf(0, [4000]);
  expect(rampMs([served, recordOf(0, [6000])], 20_000)).toBe(5000);
  expect(rampMs([served, recordOf(0, [], { error: { kind: "http_503", message: "" } })], 20_000)).toBe(4000);
  expect(rampMs([served], 60_000)).toBe(6000);
});

test("refusals that told no time are not among those that somebody could overtake", async () => {
  const plan = overload.plan({ overload: 2, duration: 10_000, concurrency: 2, isl: 4, osl: 1 });
  let users = 0;
  const { turn, clock } = fakeTurn(async ({ headers }, _, time) => {
    const startMs = time.nowMs();
    const isNew = headers !== undefined && headers["x-stainless-retry-count"] === undefined;
    const place = isNew ? ++users % 3 : 2;
    if (place < 2) return refused(startMs, place === 0 ? undefined : 3000);
    await new Promise<void>((resolve) => void time.after(200, resolve));
    return recordOf(startMs, [time.nowMs()]);
  });
  const { figures, summary } = await drive(clock, plan.run(turn), 50);
  const [told, untold] = [Math.floor((users + 2) / 3), Math.floor(users / 3)];
  expect(summary).toMatchObject({ refusals: { count: told + untold, untold } });
  // Somebody else is let in within every three seconds in which users come.
  expect(figures["overtaken %"]).toBeGreaterThan(80);
});

test("says so when nothing was served", async () => {
  const plan = overload.plan({ duration: 1000, concurrency: 1, isl: 4, osl: 3 });
  const { turn, clock } = fakeTurn(async (_, __, time) => {
    await new Promise<void>((resolve) => void time.after(100, resolve));
    return refused(time.nowMs(), undefined);
  });
  const { figures, lines, errors } = await drive(clock, plan.run(turn), 50);
  expect(figures).toEqual({ "goodput / capacity": undefined });
  expect(lines[0]).toContain("capacity could not be measured");
  expect(errors).toMatchObject([{ kind: "http_503" }]);
});
