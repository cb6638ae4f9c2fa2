/** `weft simulate` from its options to its report: traces, policies, percentiles, replays. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { runSimulate } from "../../../bench/simulate/cli.ts";
import { Histogram } from "../../../bench/simulate/histogram.ts";
import { duration } from "../../../bench/option-values.ts";
import { readPolicy } from "../../../bench/simulate/policies.ts";
import { createDraws, drawLength, meanLength } from "../../../bench/simulate/random.ts";
import { readTimeline } from "../../../bench/simulate/read-timeline.ts";
import { estimate } from "../../../bench/simulate/report.ts";
import { WORKLOADS } from "../../../bench/simulate/workloads.ts";
import { fakeEngine, submitCommand } from "../../support/engine.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "weft-simulate-"));
});
afterEach(() => rm(folder, { recursive: true }));

async function simulated(...argv: readonly string[]) {
  const texts = { out: "", err: "" };
  const code = await runSimulate(argv, {
    out: (text) => void (texts.out += text),
    err: (text) => void (texts.err += text),
  });
  return { code, ...texts };
}

test("percentiles are within half a percent, whatever the samples", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0.01, max: 1e6, noNaN: true }), { minLength: 1 }),
      fc.constantFrom(0.5, 0.95, 0.99),
      (samples, p) => {
        const histogram = new Histogram();
        for (const sample of samples) histogram.add(sample);
        const exact = [...samples].sort((a, b) => a - b)[Math.max(1, Math.ceil(p * samples.length)) - 1] ?? 0;
        expect((histogram.percentile(p) ?? 0) / exact).toBeGreaterThan(0.994);
        expect((histogram.percentile(p) ?? 0) / exact).toBeLessThan(1.006);
        expect(histogram.max).toBe(Math.max(...samples));
        expect(histogram.count).toBe(samples.length);
      },
    ),
  );
  expect(new Histogram().percentile(0.5)).toBeUndefined();
});

test("lengths and gaps follow their laws", () => {
  const draws = createDraws(7);
  const law = { p50: 1020, p90: 4000, other: { share: 0.3, law: { p50: 10, p90: 20 } } };
  const lengths = Array.from({ length: 20_000 }, () => drawLength({ p50: 1020, p90: 4000 }, draws)).sort(
    (a, b) => a - b,
  );
  expect((lengths[10_000] ?? 0) / 1020).toBeCloseTo(1, 1);
  expect((lengths[18_000] ?? 0) / 4000).toBeCloseTo(1, 1);
  const mean = Array.from({ length: 20_000 }, () => drawLength(law, draws)).reduce((a, b) => a + b) / 20_000;
  expect(mean / meanLength(law)).toBeCloseTo(1, 1);
  for (const cv of [0.5, 1, 4]) {
    const gaps = Array.from({ length: 40_000 }, () => draws.gap(cv));
    const average = gaps.reduce((a, b) => a + b) / gaps.length;
    const spread = Math.sqrt(gaps.reduce((a, b) => a + (b - average) ** 2, 0) / gaps.length);
    expect(average).toBeGreaterThan(0.9);
    expect(average).toBeLessThan(1.1);
    expect(spread / average / cv).toBeGreaterThan(0.9);
    expect(spread / average / cv).toBeLessThan(1.1);
  }
});

test.each(Object.keys(WORKLOADS))(
  "%s: the same seed gives the same trace, in order of time and fitting its slots",
  (name) => {
    const settings = { requests: 60, seed: 3, perSecond: 2, contextTokens: 2048, clients: 4 };
    const trace = [...(WORKLOADS[name]?.trace(settings) ?? [])];
    const again = [...(WORKLOADS[name]?.trace(settings) ?? [])];
    const plain = (requests: typeof trace) =>
      requests.map(({ next, ...rest }) => ({ ...rest, goesOn: next !== undefined }));
    expect(plain(again)).toEqual(plain(trace));
    expect(trace.length).toBeGreaterThan(10);
    let before = 0;
    for (const { arrivalMs, prompt, output } of trace) {
      expect(arrivalMs).toBeGreaterThanOrEqual(before);
      before = arrivalMs;
      const tokens = prompt.reduce((sum, run) => sum + run.tokens, 0);
      expect(tokens).toBeGreaterThan(0);
      expect(output.tokens).toBeGreaterThan(0);
      expect(tokens + output.tokens).toBeLessThanOrEqual(2048);
    }
  },
);

const meanOf = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0) / numbers.length;

/** Between the first requests of a trace that come by themselves. */
function gapsOf(name: string, cv: number | undefined, requests: number): number[] {
  const settings = { requests, seed: 5, perSecond: 4, contextTokens: 2048, clients: 4, cv };
  let before = 0;
  return [...(WORKLOADS[name]?.trace(settings) ?? [])].map(({ arrivalMs }) => {
    const gap = arrivalMs - before;
    before = arrivalMs;
    return gap;
  });
}

test.each([0, 0.5, 1, 2])("--cv %d is what 20,000 gaps between arrivals vary by, at the same rate", (cv) => {
  // One has a law of its own of 4.
  for (const name of ["alpaca", "azure-code", "classes"]) {
    const gaps = gapsOf(name, cv, 20_000);
    const mean = meanOf(gaps);
    const spread = Math.sqrt(meanOf(gaps.map((gap) => (gap - mean) ** 2)));
    expect(gaps).toHaveLength(20_000);
    expect(Math.abs(mean / 250 - 1)).toBeLessThan(0.03);
    expect(Math.abs(spread / mean - cv)).toBeLessThan(0.04 * cv + 1e-6);
  }
});

test("0 is evenly spaced, and so is what is too little for a law", () => {
  const draws = createDraws(1);
  expect([0, 1e-200].map((cv) => draws.gap(cv))).toEqual([1, 1]);
  expect(draws.gap(1e-100)).toBeCloseTo(1, 9);
  expect(gapsOf("alpaca", 0, 5)).toEqual([250, 250, 250, 250, 250]);
});

test.each(
  Object.entries({ "chat-small": 1, alpaca: 1, "azure-chat": 2, burst: 2, classes: 2, "agent-storm": 1 }),
)("%s has a law of its own, which --cv %d is, and another one changes", (name, own) => {
  expect(gapsOf(name, own, 60)).toEqual(gapsOf(name, undefined, 60));
  expect(gapsOf(name, 0.5, 60)).not.toEqual(gapsOf(name, undefined, 60));
});

test("the bursts and the questions of tenants both keep to --cv", () => {
  // 16 long requests at once, and a short one every second gap between the two of them.
  const gaps = gapsOf("tenants", 0, 200);
  expect(new Set(gaps)).toEqual(new Set([0, 500]));
});

test("the report says by how much gaps vary where that was asked for", async () => {
  const argv = ["--workload", "alpaca", "--policy", "balanced", "--requests", "20", "--seeds", "1"];
  expect((await simulated(...argv, "--rate", "1", "--cv", "0.5")).out).toContain(
    "1.00 arrivals a second with gaps of cv 0.5",
  );
  expect((await simulated(...argv, "--rate", "1")).out).toContain("1.00 arrivals a second\n");
});

test("policies are presets with knobs, and what is none is said", () => {
  expect(readPolicy("latency,slots=16,plugs=off")).toEqual({
    label: "latency,slots=16,plugs=off",
    knobs: { itlTargetMs: 50, minPrefillShare: 0.2, slots: 16, plugGaps: false },
    evenSteps: true,
  });
  expect(readPolicy("strict")).toEqual({
    label: "strict",
    knobs: { deterministic: true, prefixFirst: false, keepSlots: false, prefillOrder: "arrival" },
  });
  expect(readPolicy("balanced,reserve-slots=1")).toMatchObject({
    knobs: { reserve: { slots: 1, promptTokens: 512 } },
  });
  expect(readPolicy("balanced,reserve-slots=0")).toEqual({ label: "balanced,reserve-slots=0", knobs: {} });
  expect(readPolicy("balanced,victim=least-sunk-per-token")).toMatchObject({
    knobs: { victim: "least-sunk-per-token" },
  });
  expect(readPolicy("balanced,prefix-holds=off")).toEqual({
    label: "balanced,prefix-holds=off",
    knobs: { prefixHolds: false },
  });
  expect(readPolicy("baseline")).toMatchObject({ knobs: { slotChoice: "oldest", prefixHolds: false } });
  expect(readPolicy("balanced,slot-choice=oldest")).toMatchObject({
    knobs: { slotChoice: "oldest", prefixHolds: false },
  });
  expect(readPolicy("balanced,slot-choice=oldest,prefix-holds=on")).toMatchObject({
    knobs: { slotChoice: "oldest", prefixHolds: true },
  });
  expect(readPolicy("baseline,slot-choice=cheapest")).toMatchObject({
    knobs: { slotChoice: "cheapest", prefixHolds: true },
  });
  expect(readPolicy("fastest")).toBe('there is no policy "fastest"');
  expect(readPolicy("balanced,slots=0")).toContain('"slots=0"');
  expect(readPolicy("balanced,constructor=1")).toContain("constructor");
  expect(duration("0.5s")).toBe(500);
  expect(duration("80ms")).toBe(80);
  expect(() => duration("soon")).toThrow("500ms");
});

test("an interval is told with its mean", () => {
  expect(estimate([1, 2, 3])).toEqual({
    mean: 2,
    halfWidth: expect.closeTo(4.3 / Math.sqrt(3), 6) as number,
  });
  expect(estimate([5])).toEqual({ mean: 5, halfWidth: undefined });
  expect(estimate([])).toBeUndefined();
});

test("compares policies over the same traces, and repeats itself", async () => {
  const argv = ["--workload", "alpaca,closed", "--requests", "40", "--seeds", "2", "--check", "--json", "-"];
  const first = await simulated(...argv);
  const second = await simulated(...argv);
  expect(first.code).toBe(0);
  expect(first.out).toContain("baseline against balanced");
  expect(first.out).toContain("simulated steps a second");
  const read = (text: string) => JSON.parse(text.trim().split("\n").at(-1) ?? "") as { workloads: unknown };
  expect(read(second.out).workloads).toEqual(read(first.out).workloads);
  expect(read(first.out).workloads).toMatchObject([
    { workload: "alpaca", policies: [{ policy: "balanced", reports: [{ requests: 40, done: 40 }, {}] }, {}] },
    { workload: "closed", policies: [{ reports: [{ requests: 40, done: 40, refused: 0 }, {}] }, {}] },
  ]);
});

test("every preset makes a difference of its own where long prompts come beside streams", async () => {
  const presets = ["latency", "balanced", "throughput", "strict", "latency,prefill-chunk=64"];
  const { out } = await simulated(
    ..."--workload chat-long,agent --requests 80 --seeds 1 --noise 0 --json -".split(" "),
    ...presets.flatMap((preset) => ["--policy", preset]),
  );
  const { workloads } = JSON.parse(out.trim().split("\n").at(-1) ?? "") as {
    workloads: { policies: { reports: { itlMs: { max: number } }[] }[] }[];
  };
  const gaps = workloads.map(({ policies }) => policies.map(({ reports }) => reports[0]?.itlMs.max ?? NaN));
  for (const [latency = NaN, balanced = NaN, throughput = NaN, , longCells = NaN] of gaps) {
    expect(latency).toBeLessThan(0.7 * balanced);
    // Of the target alone it would be this one.
    expect(latency).toBeLessThan(0.9 * longCells);
    expect(throughput).toBeGreaterThan(2 * balanced);
  }
  // Whom it serves first differs, not how long steps are.
  const reports = workloads.map(({ policies }) => policies.map((policy) => JSON.stringify(policy.reports)));
  expect(reports.some(([, balanced, , strict]) => strict !== balanced)).toBe(true);
});

test("slots chosen by age alone and gaps left open make streams slower on a device where a pass is dear", async () => {
  const { out } = await simulated(
    ..."--device gpu --requests 150 --seeds 3 --load 0.4 --json -".split(" "),
    ..."--policy balanced --policy balanced,slot-choice=oldest,plugs=off".split(" "),
  );
  const { workloads } = JSON.parse(out.trim().split("\n").at(-1) ?? "") as {
    workloads: [{ policies: { reports: { itlMs: { p50: number } }[] }[] }];
  };
  const [chosen, oldest] = workloads[0].policies.map(({ reports }) =>
    reports.map((report) => report.itlMs.p50),
  );
  expect(oldest?.every((ms, i) => ms > 1.5 * (chosen?.[i] ?? Infinity))).toBe(true);
});

test.each([
  [["--workload", "none"], "Workloads are"],
  [["--policy", "none"], 'there is no policy "none"'],
  [["--load", "0"], "above 0"],
  [["--rate", "1", "--load", "1"], "cannot be used with"],
  [["stray"], "too many arguments"],
  [["--clients", "4"], "--clients has no meaning without --workload closed"],
  [["--workload", "closed", "--load", "0.5"], "--load has no meaning for the workload closed"],
  [["--workload", "closed", "--cv", "2"], "--cv has no meaning for the workload closed"],
  [["--workload", "alpaca", "--cv", "-1"], "argument '-1' is invalid. Expected a number from 0 to 100"],
  [["--cv=-0.5"], "argument '-0.5' is invalid. Expected a number from 0 to 100"],
  [["--cv", "NaN"], "argument 'NaN' is invalid. Expected a number from 0 to 100"],
  [["--cv", "Infinity"], "argument 'Infinity' is invalid. Expected a number from 0 to 100"],
  [["--cv", ""], "argument '' is invalid. Expected a number from 0 to 100"],
  [["--replay", "f", "--cv", "1"], "--cv has no meaning for --replay"],
  [["--replay", "f", "--policy", "strict"], "--policy has no meaning for --replay"],
  [["--replay", "f", "--noise", "0"], "--noise has no meaning for --replay"],
  [["--replay", "f", "--cost-ratio", "5"], "--cost-ratio has no meaning for --replay"],
])("refuses %j", async (argv, message) => {
  const { code, err } = await simulated(...argv);
  expect(code).toBe(2);
  expect(err).toContain(message);
});

test.each([
  [{ slotChoice: "oldest" }, false],
  [{ slotChoice: "oldest", prefixHolds: true }, true],
  [{ slotChoice: "cheapest" }, true],
  [{ slotChoice: "cheapest", prefixHolds: false }, false],
  [{}, true],
])("a recording of %j is played with holds: %j", async (policy, prefixHolds) => {
  const recorded = JSON.parse(
    gunzipSync(await readFile("test/fixtures/timelines/smollm2-fitted.json.gz")).toString("utf8"),
  ) as { readonly config: object };
  const file = join(folder, "recorded.json");
  await writeFile(
    file,
    JSON.stringify({ ...recorded, config: { ...recorded.config, ...policy }, steps: [] }),
  );
  expect((await readTimeline(file)).config).toMatchObject({ slotChoice: "cheapest", ...policy, prefixHolds });
});

test("a file that is no recording is refused by name", async () => {
  const file = join(folder, "no.json");
  await writeFile(file, '{"schema":"weft-timeline/1"}');
  const { code, err } = await simulated("--replay", file);
  expect(code).toBe(1);
  expect(err).toContain("is no timeline: model");
});

test("plays an engine's recording again: every request, its reused prefix and its tokens", async () => {
  const engine = await fakeEngine({ slots: 2, contextTokens: 256 }, { speculate: false });
  const shared = Array.from({ length: 40 }, (_, i) => 97 + (i % 26));
  for (let i = 0; i < 6; i++)
    engine.send(submitCommand(`r${i}`, [...shared, 65 + i, 66], { maxTokens: 10 + i }));
  await engine.drained();
  const timeline = await engine.timeline();
  await engine.stop();
  const file = join(folder, "timeline.json");
  const tuples = (flat: readonly number[]) =>
    Array.from({ length: flat.length / 4 }, (_, i) => flat.slice(4 * i, 4 * i + 4));
  const document = {
    schema: "weft-timeline/1",
    model: { id: "fake", name: "fake", device: "none", threads: 1 },
    ...timeline,
    steps: timeline.steps.map((step) => ({
      ...step,
      admitted: tuples(step.admitted),
      calls: step.calls.map((call) => ({ ...call, entries: tuples(call.entries) })),
    })),
  };
  await writeFile(file, JSON.stringify(document));
  const { code, out } = await simulated("--replay", file, "--json", "-");
  expect(code).toBe(0);
  const { real, simulated: played } = JSON.parse(out.trim().split("\n").at(-1) ?? "") as Record<
    "real" | "simulated",
    { requests: number; done: number; hitShare: number; steps: number }
  >;
  expect(real).toMatchObject({ requests: 6, done: 6 });
  expect(played).toMatchObject({ requests: 6, done: 6 });
  // How long a slot is kept for who may ask on is a time, so a machine that stalls takes a step more or less.
  expect(Math.abs(played.steps - real.steps)).toBeLessThanOrEqual(0.1 * real.steps);
  expect(played.hitShare).toBeCloseTo(real.hitShare, 2);
  expect(real.hitShare).toBeGreaterThan(0.3);
  expect(out).not.toContain("prefill worker");
  // As where a worker computes a prompt: its request is in no prefill call.
  const [first] = document.requests;
  const without = document.steps.map((step) => ({
    ...step,
    calls: step.calls.filter(
      ({ kind, entries }) => kind === "decode" || entries.every(([, request]) => request !== first?.request),
    ),
  }));
  await writeFile(file, JSON.stringify({ ...document, steps: without }));
  expect((await simulated("--replay", file)).out).toContain("prefill worker, which is not simulated: 1.");
});
