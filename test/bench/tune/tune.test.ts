/** `weft tune`: what the search takes and leaves, its budget, and the whole command over the scripted model's engine. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runTune } from "../../../bench/tune/cli.ts";
import type { TuneDeps } from "../../../bench/tune/cli.ts";
import type { Measurement } from "../../../bench/tune/measure.ts";
import { parseTuneOptions } from "../../../bench/tune/options.ts";
import { tuneReport } from "../../../bench/tune/report.ts";
import { candidatesFor, score, search } from "../../../bench/tune/search.ts";
import { ServerEnded } from "../../../bench/tune/server-process.ts";
import type { Trial, TuneSettings } from "../../../bench/tune/search.ts";
import { realClock } from "../../../bench/clock.ts";
import { createEngine } from "../../../engine/engine.ts";
import { FakeBackend } from "../../../engine/fake/backend.ts";
import { hostEngine } from "../../../engine/process/in-process.ts";
import { loadConfig } from "../../../src/config/load-config.ts";
import { LOAD_OPTIONS } from "../../support/engine.ts";
import { listenTestApp } from "../../support/listen.ts";

const START: TuneSettings = {
  threads: 4,
  slots: 8,
  "prefill-chunk": 64,
  "itl-target": 400,
  "batch-size": 64,
  "flash-attention": "on",
  "kv-type": "f16",
  plugs: true,
};
const OBJECTIVE = { ttftMs: 500, itlMs: 50 };

function measured(outputPerSecond: number, ttftMs = 100, itlMs = 20): Measurement {
  return { outputPerSecond, ttftMs, itlMs, longestGapMs: 30 };
}

/** Searches a machine on which `measure` says what settings are worth; a budget is in measurements. */
function searched(
  measure: (settings: TuneSettings, call: number) => Measurement,
  { start = START, budget = Infinity }: { readonly start?: TuneSettings; readonly budget?: number } = {},
) {
  let calls = 0;
  return search(start, candidatesFor(4, false, OBJECTIVE), OBJECTIVE, {
    measure: (settings) => Promise.resolve().then(() => measure(settings, ++calls)),
    hasTime: () => calls < budget,
    onTrial: () => undefined,
  });
}

describe("the search", () => {
  test("finds that a core left to the server beats all of them, where it does", async () => {
    const { best, trials, complete } = await searched(({ threads }) => measured(threads === 3 ? 120 : 100));
    expect(best).toEqual({ ...START, threads: 3 });
    expect(trials.filter(({ taken }) => taken)).toHaveLength(2);
    expect(complete).toBe(true);
  });

  test("keeps all cores where that is better", async () => {
    expect((await searched(({ threads }) => measured(25 * threads))).best.threads).toBe(4);
  });

  test("goes on from the best so far, and gives calls room for it", async () => {
    const rate = ({ slots, "prefill-chunk": chunk }: TuneSettings): number =>
      slots + (chunk === 128 ? 10 : 0);
    const { best } = await searched((settings) => measured(rate(settings)));
    expect(best).toMatchObject({ slots: 16, "prefill-chunk": 128, "batch-size": 128 });
  });

  test("finds that attention without tiles and short cells keep an objective that neither keeps alone", async () => {
    const itlMs = ({ "flash-attention": flash, "prefill-chunk": chunk }: TuneSettings): number =>
      flash === "off" && chunk === 16 ? 45 : 60;
    const { best } = await searched((settings) => measured(100, 100, itlMs(settings)));
    expect(best).toMatchObject({ "flash-attention": "off", "prefill-chunk": 16, "kv-type": "f16" });
  });

  test("keeps flash attention where streams are slower without it, and tries it where there is none", async () => {
    const rate = ({ "flash-attention": flash }: TuneSettings): number => (flash === "on" ? 113 : 100);
    expect((await searched((settings) => measured(rate(settings)))).best).toEqual(START);
    const from = { start: { ...START, "flash-attention": "off" as const } };
    const { best } = await searched((settings) => measured(rate(settings)), from);
    expect(best).toEqual(START);
  });

  test("has the scheduler hold prompts back for the objective, where that keeps it", async () => {
    const itlMs = ({ "itl-target": target }: TuneSettings): number => (target <= 25 ? 40 : 90);
    const { best, trials } = await searched((settings) => measured(100, 100, itlMs(settings)));
    expect(best).toEqual({ ...START, "itl-target": 25 });
    const tried = trials.filter(({ knob }) => knob === "itl-target");
    expect(tried.map(({ settings }) => settings["itl-target"])).toEqual([50, 25]);
  });

  test("tries a quantized cache with the attention that it needs", async () => {
    const tried: TuneSettings[] = [];
    await searched((settings) => {
      tried.push(settings);
      return measured(settings["flash-attention"] === "off" ? 150 : 100);
    });
    expect(tried.filter(({ "kv-type": kv }) => kv === "q8_0")).toEqual([
      expect.objectContaining({ "flash-attention": "on" }),
    ]);
  });

  test("puts the objective before the rate, and outside of it comes nearer", async () => {
    const within = await searched(({ threads }) => (threads === 4 ? measured(200, 900) : measured(50)));
    expect(within.best.threads).toBe(3);
    const nearer = await searched(({ slots }) => measured(100, 100, slots === 4 ? 60 : 90));
    expect(nearer.best.slots).toBe(4);
    expect(score(nearer.measured, OBJECTIVE)).toBeLessThan(1);
  });

  test("does not take what wins once only, nor what wins by little", async () => {
    const lucky = await searched((_, call) => measured(call === 2 ? 200 : 100));
    expect(lucky.best).toEqual(START);
    const little = await searched(({ threads }) => measured(threads === 3 ? 102 : 100));
    expect(little.best).toEqual(START);
  });

  test("goes on behind settings that cannot be used", async () => {
    const { best, trials } = await searched(({ "kv-type": kv, plugs }) => {
      if (kv === "q8_0") throw new Error("no such cache");
      return measured(plugs ? 100 : 150);
    });
    expect(best).toEqual({ ...START, plugs: false });
    expect(trials.find(({ knob }) => knob === "kv-type")).toMatchObject({
      failure: "no such cache",
      taken: false,
    });
  });

  test("stops when its time is over, with the best so far", async () => {
    const { best, trials, complete } = await searched(({ threads }) => measured(threads === 3 ? 120 : 100), {
      budget: 3,
    });
    expect(best.threads).toBe(3);
    expect(trials).toHaveLength(2);
    expect(complete).toBe(false);
  });

  test("leaves threads alone where a GPU computes", () => {
    expect([...candidatesFor(8, true, OBJECTIVE).keys()]).not.toContain("threads");
  });
});

describe("the report", () => {
  const facts = {
    name: "M",
    device: "CPU",
    threads: 1,
    flashAttention: true,
    slots: 8,
    prefillChunk: 64,
    batchTokens: 64,
    itlTargetMs: 400,
  };
  const trial = (threads: number, rate: number | undefined): Trial => ({
    settings: { ...START, threads },
    knob: threads === 1 ? undefined : "threads",
    against: { ...START, threads: 1 },
    measured: rate === undefined ? undefined : measured(rate),
    failure: rate === undefined ? "too late" : undefined,
    taken: false,
  });
  const verdict = (...trials: Trial[]): string | undefined =>
    tuneReport(
      { best: START, measured: measured(100), trials, complete: true },
      { ...parseTuneOptions([]), objective: OBJECTIVE },
      { facts, cores: 2, trials: true },
    ).at(-1);

  test("says what a core left to the server is worth, or that it is not known", () => {
    expect(verdict(trial(1, 100), trial(2, 79))).toBe(
      "1 thread, with a core left to the server, against 2: +27 % tok/s, within the objective with 1, within the objective with 2; leaving it pays",
    );
    expect(verdict(trial(1, 100), trial(2, 125))).toBe(
      "1 thread, with a core left to the server, against 2: -20 % tok/s, within the objective with 1, within the objective with 2",
    );
    // Slower and within it is better than faster and outside of it.
    const late = { ...trial(2, 125), measured: measured(125, 900) };
    expect(verdict(trial(1, 100), late)).toBe(
      "1 thread, with a core left to the server, against 2: -20 % tok/s, within the objective with 1, outside the objective with 2; leaving it pays",
    );
    expect(verdict(trial(1, 100), trial(2, undefined))).toBe(
      "What a core left to the server is worth is not known: 2 threads could not be measured.",
    );
  });
});

describe("the command", () => {
  let folder = "";
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "weft-tune-"));
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function tuned(argv: readonly string[], startServer: TuneDeps["startServer"]) {
    const texts = { out: "", err: "" };
    const output = {
      out: (text: string) => void (texts.out += text),
      err: (text: string) => void (texts.err += text),
    };
    const code = await runTune(argv, output, { startServer, clock: realClock, cores: 2 });
    return { code, ...texts };
  }

  let running = 0;
  const startFake: TuneDeps["startServer"] = async (flags) => {
    if (flags.includes("q8_0")) throw new Error("The cache cannot be made.");
    const backend = new FakeBackend({ contextTokens: 256 });
    const port = hostEngine((emit) => createEngine(() => Promise.resolve(backend), emit));
    const app = await listenTestApp({
      port,
      facts: { ...backend.facts, loadMs: 0, device: "CPU, 1 threads" },
    });
    await app.loaded.engine.load(LOAD_OPTIONS);
    running += 1;
    return {
      url: app.baseURL,
      stop: async () => {
        running -= 1;
        await app.loaded.engine.stop();
        await app.close();
      },
    };
  };

  test("writes a configuration that serve reads and a report of every trial, and leaves no server behind", async () => {
    const started: string[] = [];
    const [config, report] = [join(folder, "tuned.json"), join(folder, "tuned.txt")];
    const load = [
      "--clients",
      "2",
      "--requests",
      "3",
      "--isl",
      "8",
      "--osl",
      "4",
      "--ttft",
      "1h",
      "--itl",
      "1h",
    ];
    const { code, out, err } = await tuned(
      [...load, "--output", config, "--report", report],
      (flags, timeoutMs) => {
        started.push(flags.join(" "));
        return startFake(flags, timeoutMs);
      },
    );
    expect(code).toBe(0);
    expect(running).toBe(0);
    const text = await readFile(report, "utf8");
    expect(text).toContain("weft tune --clients 2 --requests 3");
    expect(text).toMatch(/as the engine chooses +[\d.]+ tok\/s/);
    expect(text).toMatch(/threads 2 +[\d.]+ tok\/s/);
    expect(text).toMatch(/flash-attention on +[\d.]+ tok\/s/);
    expect(text).toMatch(/kv-type q8_0(, flash-attention on)? +failed: The cache cannot be made\./);
    expect(text).toMatch(/1 thread, with a core left to the server, against 2: [+-]?\d+ % tok\/s/);
    expect(out).toContain(` --model pocket --config ${config}`);
    // Told as it was made.
    expect(err).toMatch(/^weft tune: as the engine chooses +[\d.]+ tok\/s/);
    expect(out).not.toContain("as the engine chooses");
    expect(started[0]).toBe("--model pocket --context 44 --speculation off");
    const tried =
      /--threads 2 --slots 4 --flash-attention off --prefill-chunk 8 --itl-target \d+ --batch-size/;
    expect(started.some((flags) => tried.test(flags))).toBe(true);
    expect(started.some((flags) => flags.includes("--itl-target 60000"))).toBe(true);
    const { values } = loadConfig({ flags: {}, env: {}, file: config });
    expect(values).toMatchObject(JSON.parse(await readFile(config, "utf8")) as object);
    expect(values.threads).toBeGreaterThan(0);
  });

  test("ends with 1 where nothing keeps the objective, with the nearest settings", async () => {
    const config = join(folder, "tuned.json");
    const argv = ["--requests", "1", "--isl", "8", "--osl", "4", "--ttft", "0.001ms"];
    let starts = 0;
    const { code, out, err } = await tuned([...argv, "--output", config], (flags, timeoutMs) =>
      starts++ === 0 ? startFake(flags, timeoutMs) : Promise.reject(new Error("Once is enough.")),
    );
    expect(code).toBe(1);
    expect(out).toContain("Nothing that was tried keeps the objective; this comes nearest to it.");
    expect(err.split("\n").at(-2)).toBe(
      `weft tune: nothing that was tried keeps the objective; ${config} has what comes nearest to it`,
    );
  });

  test("ends as the server does, where there is no such model", async () => {
    const ended = (exitCode: number | null) =>
      tuned([], () => Promise.reject(new ServerEnded(exitCode, "weft: No.\n")));
    expect(await ended(3)).toEqual({ code: 3, out: "", err: "weft tune: No.\n" });
    expect(await ended(4)).toMatchObject({ code: 4 });
    expect(await ended(2)).toMatchObject({ code: 1 });
    expect(await ended(null)).toMatchObject({ code: 1 });
  });

  test("says what keeps the server from starting", async () => {
    const { code, err } = await tuned([], () => Promise.reject(new Error("There is no model called none.")));
    expect(code).toBe(1);
    expect(err).toBe("weft tune: There is no model called none.\n");
  });

  test.each([
    [["--itl", "soon"], "500ms"],
    [["--clients", "0"], "1 to 256"],
    [["stray"], "too many arguments"],
  ])("refuses %j", async (argv, message) => {
    const { code, err } = await tuned(argv, () => Promise.reject(new Error("not to be started")));
    expect(code).toBe(2);
    expect(err).toContain(message);
  });
});
