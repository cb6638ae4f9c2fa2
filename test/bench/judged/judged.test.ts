/** `weft bench --judged`: what a row is judged by, what is said of one that is not, and that time and keys are kept. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { runBench } from "../../../bench/cli.ts";
import { realClock } from "../../../bench/clock.ts";
import { GOALS, judge, PARTS } from "../../../bench/judged/goals.ts";
import type { Figure, PartOutcome } from "../../../bench/judged/goals.ts";
import { runJudged } from "../../../bench/judged/measure.ts";
import { formatJudged } from "../../../bench/judged/report.ts";
import { parseOptions } from "../../../bench/options.ts";
import type { JudgedOptions } from "../../../bench/options.ts";
import { createManualClock } from "../manual-clock.ts";
import { answerWhole, sendJson, startScriptedServer } from "../scripted-server.ts";
import type { Answer, ScriptedServer } from "../scripted-server.ts";

const exactly = (value: number) => ({ median: value, min: value, max: value });
const ratioOf = (value: number): Figure => ({
  ours: exactly(value),
  theirs: exactly(1),
  ratio: exactly(value),
  interval: undefined,
});
const outcome = (figures: Record<string, Figure>, failed: string[] = []): PartOutcome => ({
  figures: new Map(Object.entries(figures)),
  failed,
});

test("every part has a goal, and every goal one bound", () => {
  expect([...new Set(GOALS.map(({ part }) => part))]).toEqual([...PARTS]);
  for (const { least, most } of GOALS) expect([least, most].filter(Number.isFinite)).toHaveLength(1);
});

describe("a row", () => {
  test("is met at its bound and on its right side", () => {
    const verdicts = (tokens: number): unknown[] =>
      judge("decode", outcome({ "output tok/s, 1": ratioOf(tokens) })).map(({ met }) => met);
    expect(verdicts(1)).toEqual([true, undefined, undefined, undefined]);
    expect(verdicts(0.999)).toEqual([false, undefined, undefined, undefined]);
    const gap = (ratio: number): unknown =>
      judge("long-beside-short", outcome({ "gap after ms": ratioOf(ratio) }))[0]?.met;
    expect([gap(0.05), gap(0.051)]).toEqual([true, false]);
  });

  test("of our own figure looks at that and not at the ratio", () => {
    const own: Figure = { ...ratioOf(9), ours: exactly(1.4) };
    expect(judge("mixed-tenants", outcome({ "beside / alone": own }))).toMatchObject([{ met: true }]);
  });

  test("without its figure says what is missing", () => {
    const alone: Figure = { ...ratioOf(1), ours: exactly(5), theirs: undefined, ratio: undefined };
    const why = (given: PartOutcome): unknown[] => judge("multi-turn", given).map((row) => row.why);
    expect(why({ notRun: "no time" })).toEqual(["no time", "no time"]);
    expect(why(outcome({ "ttft p50 ms": alone }))).toEqual(["needs --vs", "there was no such figure"]);
    expect(why(outcome({}, ["http_500 x 2: boom"]))).toEqual(["http_500 x 2: boom", "http_500 x 2: boom"]);
  });

  test("with failed requests is not met, and says why", () => {
    const rows = judge("mixed-tenants", outcome({ "beside / alone": ratioOf(1) }, ["http_500 x 2: a | b"]));
    expect(formatJudged(rows)[2]).toMatch(/\| no; http_500 x 2: a \/ b +\|$/);
  });
});

test("the table is Markdown with every row, aligned, and a count", () => {
  const met = judge("predicted-edit", outcome({ ratio: ratioOf(2.5), "equal %": ratioOf(75) }));
  expect(formatJudged([...met, ...judge("overload", { notRun: "no time" })])).toEqual([
    "| scenario                                       | figure             | goal   | A     | B    | A/B    | met                 |",
    "| ---------------------------------------------- | ------------------ | ------ | ----- | ---- | ------ | ------------------- |",
    "| file rewritten with one word changed, 1 client | ratio              | >= 2   | 2.50  | 1.00 | 2.500  | yes                 |",
    "| file rewritten with one word changed, 1 client | equal %            | >= 100 | 75.00 | 1.00 | 75.000 | no                  |",
    "| users at 3 x capacity                          | goodput / capacity | >= 0.9 | -     | -    | -      | not judged: no time |",
    "| users at 3 x capacity                          | right %            | >= 90  | -     | -    | -      | not judged: no time |",
    "",
    "1 of 2 judged rows met, 2 not judged",
  ]);
});

test("the table says how sure a ratio is where three rounds tell, and a dash where they do not", () => {
  const sure = { ...ratioOf(0.03), interval: { low: 0.025, high: 0.0312 } };
  const rows = judge("long-beside-short", outcome({ "gap after ms": sure, "long ttft ms": ratioOf(1.2) }));
  expect(formatJudged(rows).slice(0, 4)).toEqual([
    "| scenario                            | figure       | goal        | A     | B    | A/B   | 95 % of A/B   | met |",
    "| ----------------------------------- | ------------ | ----------- | ----- | ---- | ----- | ------------- | --- |",
    "| 3,000-token prompt beside 3 streams | gap after ms | A/B <= 0.05 | 0.030 | 1.00 | 0.030 | 0.025 - 0.031 | yes |",
    "| 3,000-token prompt beside 3 streams | long ttft ms | A/B <= 1.3  | 1.20  | 1.00 | 1.200 | -             | yes |",
  ]);
});

/** In their order; `*` is what was sent. */
const PLOTS_OF_REQUESTS = [
  "Time to first token, *",
  "Time between tokens, *",
  "End to end, *",
  ...["A", "B"].flatMap((side) => [
    `Requests of ${side}, *, first round: waiting for the first token (faint), answering`,
    `Open requests of ${side}, *, first round: all, and waiting for the first token (faint)`,
  ]),
];

describe("the command", () => {
  const servers: ScriptedServer[] = [];
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.close()));
  });
  const start = async (answer: Answer): Promise<ScriptedServer> => {
    const server = await startScriptedServer(answer);
    servers.push(server);
    return server;
  };
  const judged = (...argv: readonly string[]): JudgedOptions => {
    const options = parseOptions(["--judged", ...argv]);
    if (options.mode !== "judged") throw new Error("another mode");
    return options;
  };

  test("asks both servers the same", async () => {
    const [a, b] = [await start(answerWhole), await start(answerWhole)];
    const options = judged("--url", a.url, "--vs", b.url, "--rows", "long-beside-short");
    const { rows } = await runJudged(
      options,
      { clock: realClock, progress: () => undefined },
      () => undefined,
    );
    expect(rows.map(({ figure }) => figure)).toEqual(["gap after ms", "long ttft ms"]);
    expect(rows[1]).toMatchObject({ ours: {}, theirs: {}, ratio: {}, met: expect.any(Boolean) });
    const prompts = (server: ScriptedServer): string[] =>
      server.bodies.map((body) => JSON.stringify(body["messages"])).sort();
    expect(prompts(b)).toEqual(prompts(a));
    // Three streams, the long prompt and a warm-up.
    expect(a.bodies).toHaveLength(5);
  });

  test("writes a page with the table on top and the plots of each part under its name", async () => {
    const [a, b] = [await start(answerWhole), await start(answerWhole)];
    const folder = await mkdtemp(join(tmpdir(), "weft-judged-"));
    try {
      const page = join(folder, "page.html");
      const argv = [
        "--judged",
        "--url",
        a.url,
        "--vs",
        b.url,
        "--rows",
        "decode,bare-loop,long-beside-short",
      ];
      let out = "";
      const files = ["--report", page, "--json", "-"];
      await runBench([...argv, ...files], { out: (text) => (out += text), err: () => undefined });
      const html = await readFile(page, "utf8");
      expect(
        [...html.matchAll(/<(h[23])>(.*?)<\/h[23]>/g)].map(([, level, text]) => `${level} ${text}`),
      ).toEqual([
        "h2 decode",
        "h3 Throughput against time to first token, by number of clients",
        ...PLOTS_OF_REQUESTS.map((title) => `h3 ${title.replace("*", "16 clients")}`),
        ...["1 clients", "4 clients", "8 clients", "16 clients"].map((title) => `h3 ${title}`),
        "h2 long-beside-short",
        "h3 Time between tokens of the streams when a long prompt arrives, first round",
        ...PLOTS_OF_REQUESTS.map((title) => `h3 ${title.replace("*", "long-beside-short")}`),
        "h3 long-beside-short",
        "h2 What the numbers mean",
      ]);
      const rows = [...html.slice(0, html.indexOf("<h2>")).matchAll(/<tr><td>(.*?)<\/td><td>(.*?)<\/td>/g)];
      expect(rows.map(([, traffic, figure]) => `${traffic}: ${figure}`)).toEqual(
        GOALS.filter(({ part }) => ["decode", "long-beside-short", "bare-loop"].includes(part)).map(
          ({ traffic, figure }) => `${traffic}: ${figure}`,
        ),
      );
      expect(html).not.toMatch(/<script|<link|<img|@import|url\(|src=|href=/);
      const document: unknown = JSON.parse(out.trimEnd().split("\n").at(-1) ?? "");
      expect(document).toMatchObject({
        parts: [
          { part: "decode", comparisons: [{ title: "1 clients" }, {}, {}, {}] },
          {
            part: "long-beside-short",
            comparisons: [
              {
                title: "long-beside-short",
                rows: expect.arrayContaining([expect.objectContaining({ metric: "gap after ms" })]),
              },
            ],
          },
        ],
      });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("of three rounds says between what the ratio lies, of two it does not", async () => {
    const [a, b] = [await start(answerWhole), await start(answerWhole)];
    const intervals = async (rounds: string): Promise<unknown> => {
      const both = ["--url", a.url, "--vs", b.url, "--rows", "long-beside-short", "--repeat", rounds];
      const context = { clock: realClock, progress: () => undefined };
      const { rows } = await runJudged(judged(...both), context, () => undefined);
      return rows[1]?.interval;
    };
    expect(await intervals("2")).toBeUndefined();
    expect(await intervals("3")).toEqual({ low: expect.any(Number), high: expect.any(Number) });
  });

  test("without another server shows our figures, and that they cannot be judged", async () => {
    const server = await start(answerWhole);
    const options = judged("--url", server.url, "--rows", "decode", "--warmup", "0");
    const { rows } = await runJudged(
      options,
      { clock: realClock, progress: () => undefined },
      () => undefined,
    );
    expect(rows.map(({ ours, why }) => [ours !== undefined, why])).toEqual(
      Array.from({ length: 4 }, () => [true, "needs --vs"]),
    );
    // 1, 4, 8 and 16 clients with six requests each, at least eight.
    expect(server.bodies).toHaveLength(8 + 24 + 48 + 96);
  });

  test("asks the other server nothing where the goal is about ourselves", async () => {
    const [a, b] = [await start(answerWhole), await start(answerWhole)];
    let [out, err] = ["", ""];
    const argv = ["--judged", "--url", a.url, "--vs", b.url, "--rows", "mixed-tenants,predicted-edit"];
    const keys = ["--api-key", "secret-1", "--greedy-key", "secret-2", "--json", "-"];
    await runBench([...argv, ...keys], { out: (text) => (out += text), err: (text) => (err += text) });
    expect(b.bodies).toEqual([]);
    const used = new Set(a.headers.map(({ authorization }) => authorization));
    expect(used).toEqual(new Set(["Bearer secret-1", "Bearer secret-2"]));
    expect(out + err).not.toContain("secret");
    const document: unknown = JSON.parse(out.trimEnd().split("\n").at(-1) ?? "");
    expect(document).toMatchObject({
      options: { mode: "judged", parts: ["mixed-tenants", "predicted-edit"] },
      rows: [{ part: "mixed-tenants" }, { part: "predicted-edit" }, { part: "predicted-edit" }],
    });
  });

  test("says what a part needs, and that no time is left for one, and goes on", async () => {
    const clock = createManualClock();
    const server = await start((response) => {
      clock.advance(14_000);
      sendJson(response, 503, { error: { message: "full" } });
    });
    const rows = "mixed-tenants,bare-loop,overload,predicted-edit,multi-turn,scheduler";
    const options = judged("--url", server.url, "--rows", rows, "--budget", "100s");
    const { rows: judgedRows } = await runJudged(
      options,
      { clock, progress: () => undefined },
      () => undefined,
    );
    const reasons = new Map(judgedRows.map(({ part, why }) => [part, why]));
    expect([...reasons]).toEqual([
      ["mixed-tenants", "needs two keys, --api-key and --greedy-key"],
      ["bare-loop", "needs --bare-model, the file that the servers have loaded"],
      ["overload", "no time was left; see --budget"],
      // Seven requests, the one that warms up among them, each of which took fourteen seconds.
      ["predicted-edit", "http_503 x 6: full"],
      // None takes longer than was left.
      ["multi-turn", "timeout x 24: Not finished after 2000 ms."],
      ["scheduler", "no time was left; see --budget"],
    ]);
  });

  test.each([
    [["--judged", "--isl", "5"], "--isl has no meaning for --judged"],
    [["--judged", "--rows", "decode,nothing"], "Expected some of decode"],
    [["--judged", "--endpoint", "completions"], "--judged needs --endpoint chat"],
    [["--budget", "5s"], "--budget has no meaning for levels"],
    [["--rows", "decode"], "--rows has no meaning for levels"],
  ])("%j is wrong usage", async (argv, message) => {
    let err = "";
    expect(await runBench(argv, { out: () => undefined, err: (text) => (err += text) })).toBe(2);
    expect(err).toContain(message);
  });
});
