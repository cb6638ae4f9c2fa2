import { describe, expect, it } from "vitest";
import { hideKey } from "../../bench/environment.ts";
import { OptionsExit } from "../../bench/option-values.ts";
import { defaultRequests, parseOptions } from "../../bench/options.ts";

function exitOf(...argv: readonly string[]): OptionsExit {
  try {
    parseOptions(argv);
  } catch (error) {
    if (error instanceof OptionsExit) return error;
  }
  throw new Error("accepted");
}

describe("parseOptions", () => {
  it("without options it measures the local server at four levels", () => {
    expect(parseOptions([])).toEqual({
      mode: "closed-loop",
      urls: ["http://127.0.0.1:9338"],
      endpoint: "chat",
      model: undefined,
      apiKey: undefined,
      concurrency: [1, 4, 8, 16],
      length: undefined,
      promptTokens: 128,
      outputTokens: 128,
      sharedPrefixTokens: 0,
      warmup: 1,
      timeoutMs: 600_000,
      rounds: 1,
      seed: 1,
      json: undefined,
    });
  });

  it.each([
    ["http://h:1/v1", "http://h:1"],
    ["http://h:1/v1/", "http://h:1"],
    ["http://h:1", "http://h:1"],
    ["https://h/proxy/v1", "https://h/proxy"],
    ["localhost:9338/v1", "http://localhost:9338"],
    ["127.0.0.1:9338", "http://127.0.0.1:9338"],
  ])("the URL %s means the server %s", (given, url) => {
    expect(parseOptions(["--url", given])).toMatchObject({ urls: [url] });
  });

  it("the scenario and the engine mode have lengths of their own", () => {
    expect(parseOptions(["--scenario", "long-beside-short"])).toMatchObject({
      mode: "scenario",
      scenario: "long-beside-short",
      plan: { settings: { promptTokens: 3000, outputTokens: 256, streams: 3 } },
    });
    expect(parseOptions(["--scenario", "embeddings", "--requests", "5"])).toMatchObject({
      mode: "embeddings",
      endpoint: "embeddings",
      concurrency: [1, 4, 8, 16],
      length: { requests: 5 },
      promptTokens: 128,
      texts: 16,
    });
    expect(parseOptions(["--engine", "--model", "pocket"])).toMatchObject({
      mode: "engine",
      model: "pocket",
      promptTokens: 64,
      outputTokens: 128,
    });
  });

  it("a duration in seconds replaces the number of requests", () => {
    expect(parseOptions(["--duration", "2.5"])).toMatchObject({ length: { durationMs: 2500 } });
    expect(parseOptions(["--requests", "9"])).toMatchObject({ length: { requests: 9 } });
  });

  it("a rate makes an open loop of a minute, unless told otherwise", () => {
    expect(parseOptions(["--rate", "2.5"])).toMatchObject({
      length: { requests: 150 },
      arrivals: { perSecond: 2.5, burstiness: 1 },
    });
    expect(parseOptions(["--rate", "4", "--burstiness", "0.25", "--requests", "9"])).toMatchObject({
      length: { requests: 9 },
      arrivals: { perSecond: 4, burstiness: 0.25 },
    });
  });

  it("three scenarios are levels of their own", () => {
    expect(parseOptions(["--scenario", "saturate", "--isl", "64"])).toMatchObject({
      mode: "closed-loop",
      untilSaturated: true,
      concurrency: [1, 2, 4, 8, 16, 32, 64, 128, 256],
      promptTokens: 64,
    });
    expect(parseOptions(["--scenario", "poisson", "--ttft", "2s"])).toMatchObject({
      mode: "closed-loop",
      length: { requests: 60 },
      arrivals: { perSecond: 1, burstiness: 1 },
      objective: { ttftMs: 2000 },
    });
    expect(parseOptions(["--scenario", "burst", "--rate", "3", "--duration", "5"])).toMatchObject({
      length: { durationMs: 5000 },
      arrivals: { perSecond: 3, burstiness: 0.25 },
    });
  });

  it.each([
    ["--burstiness", "0.5"],
    ["--scenario", "saturate", "--concurrency", "4"],
    ["--scenario", "saturate", "--rate", "4"],
    ["--scenario", "poisson", "--burstiness", "2"],
    ["--scenario", "multi-turn", "--rate", "2"],
    ["--engine", "--model", "m", "--warmup", "2"],
    ["--engine", "--model", "m", "--url", "http://h"],
    ["--engine", "--model", "m", "--timeout", "2"],
    ["--scheduler", "--model", "m"],
    ["--scheduler", "--api-key", "k"],
    ["--rate", "0"],
    ["--rate", "2", "--concurrency", "4"],
    ["--rate", "2", "--scenario", "embeddings"],
    ["--scenario", "embeddings", "--report", "f.html"],
    ["--scenario", "embeddings", "--endpoint", "completions"],
    ["--requests", "0"],
    ["--concurrency", "1,,4"],
    ["--concurrency", "9999"],
    ["--url", "http://"],
    ["--isl", "1e3"],
    ["--duration", "-1"],
    ["--requests", "3", "--duration", "3"],
    ["--shared-prefix", "128"],
    ["--scenario", "long-beside-short", "--osl", "16"],
    ["--scenario", "other"],
    ["--scenario", "shared-prefix", "--shared-prefix", "0"],
    ["--scenario", "shared-prefix", "--isl", "900"],
    ["--scenario", "shared-prefix", "--concurrency", "1,4"],
    ["--scenario", "multi-turn", "--endpoint", "completions"],
    ["--scenario", "multi-turn", "--duration", "5"],
    ["--scenario", "mixed-tenants", "--api-key", "a"],
    ["--scenario", "mixed-tenants", "--greedy-key", "a"],
    ["--scenario", "mixed-tenants", "--api-key", "a", "--greedy-key", "a"],
    ["--streams", "3"],
    ["--texts", "3"],
    ["--threads", "3"],
    ["--scenario", "long-beside-short", "--requests", "3"],
    ["--scenario", "embeddings", "--engine", "--model", "m"],
    ["--scenario", "embeddings", "--texts", "0"],
    ["--engine"],
    ["--engine", "--model", "m", "--osl", "1"],
    ["--engine", "--model", "m", "--vs", "http://h"],
    ["--scheduler", "--vs", "http://h"],
    ["--scheduler", "--concurrency", "4"],
    ["--scheduler", "--slots", "0"],
    ["--waiting", "1000"],
    ["--nonsense"],
    ["extra"],
  ])("%s %s is refused with exit code 2 and a reason", (...argv) => {
    const exit = exitOf(...argv);
    expect(exit.exitCode).toBe(2);
    expect(exit.text).toMatch(/^error: /);
  });

  it("times may have units", () => {
    expect(
      parseOptions(["--timeout", "2m", "--duration", "500ms", "--ttft", "1.5s", "--itl", "50"]),
    ).toMatchObject({
      timeoutMs: 120_000,
      length: { durationMs: 500 },
      objective: { ttftMs: 1500, itlMs: 50 },
    });
    expect(exitOf("--timeout", "2d").text).toContain(
      "Expected a time above 0, at most 86400s, such as 500ms or 2s.",
    );
    expect(exitOf("--help").text.replaceAll(/\s+/g, " ")).toContain(
      "--timeout <time> longest a request may take, in seconds or with a unit (default: 600s)",
    );
  });

  it("help is not an error", () => {
    expect(exitOf("--help")).toMatchObject({ exitCode: 0, text: expect.stringContaining("--shared-prefix") });
  });

  it.each([
    [1, 8],
    [2, 8],
    [4, 16],
    [16, 64],
  ])("%i clients send %i requests", (concurrency, requests) => {
    expect(defaultRequests(concurrency)).toBe(requests);
  });
});

describe("hideKey", () => {
  it("an API key never reaches the header, however it was given", () => {
    const given = ["--api-key", "secret", "--api-key=secret", "--greedy-key", "secret", "--seed", "1"];
    expect(hideKey(given)).toEqual([
      "--api-key",
      "***",
      "--api-key=***",
      "--greedy-key",
      "***",
      "--seed",
      "1",
    ]);
  });
});
