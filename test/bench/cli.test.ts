import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { runBench } from "../../bench/cli.ts";
import { answerWhole, sendJson, startScriptedServer } from "./scripted-server.ts";
import type { Answer, ScriptedServer } from "./scripted-server.ts";

interface Run {
  readonly exitCode: number;
  readonly out: string;
  readonly err: string;
}

async function bench(...argv: readonly string[]): Promise<Run> {
  let out = "";
  let err = "";
  const exitCode = await runBench(argv, { out: (text) => (out += text), err: (text) => (err += text) });
  return { exitCode, out, err };
}

describe("weft bench", () => {
  const servers: ScriptedServer[] = [];

  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.close()));
  });

  async function start(answer: Answer): Promise<ScriptedServer> {
    const server = await startScriptedServer(answer);
    servers.push(server);
    return server;
  }

  const small = ["--concurrency", "2", "--requests", "4", "--isl", "12", "--osl", "3"] as const;

  it("warns of more threads than cores before an engine is loaded", async () => {
    const { exitCode, err } = await bench("--engine", "--model", "/no/such.gguf", "--threads", "512");
    expect(exitCode).toBe(1);
    const [warning, error] = err.split("\n");
    expect(warning).toMatch(/^weft bench: --threads 512 is more than the \d+ core/);
    expect(error).toContain("/no/such.gguf");
  });

  it("the last line of stdout is one JSON document with our names and vLLM's", async () => {
    const { url } = await start(answerWhole);
    const { exitCode, out } = await bench(
      "--url",
      `${url}/v1`,
      ...small,
      "--json",
      "-",
      "--api-key",
      "secret",
    );
    const document: unknown = JSON.parse(out.trimEnd().split("\n").at(-1) ?? "");
    expect(exitCode).toBe(0);
    expect(document).toMatchObject({
      schema: "weft-bench/1",
      environment: { node: process.version, arguments: expect.arrayContaining(["***"]) },
      targets: [{ url, model: "scripted", endpoint: "chat" }],
      levels: [
        {
          concurrency: 2,
          succeeded: 4,
          failed: 0,
          promptTokens: 40,
          cachedTokens: 16,
          outputTokens: 12,
          completed: 4,
          total_output_tokens: 12,
          mean_ttft_ms: expect.any(Number),
          p99_ttft_ms: null,
        },
      ],
    });
    expect(out).not.toContain("secret");
    expect(out).toContain("requests  4 ok   0 failed");
    expect(out).toContain("errors: none");
  });

  it("with an objective, requests within it are counted", async () => {
    const { url } = await start(answerWhole);
    const { out } = await bench("--url", url, ...small, "--ttft", "10s", "--itl", "10s", "--json", "-");
    expect(out).toMatch(
      /goodput {3}\S+ req\/s {3}4 requests \(100\.0%\) with ttft <= 10000 ms, tpot <= 10000 ms/,
    );
    const document: unknown = JSON.parse(out.trimEnd().split("\n").at(-1) ?? "");
    expect(document).toMatchObject({
      levels: [{ goodput: { good: 4, share: 1 }, request_goodput: expect.any(Number) }],
      comparisons: [
        { comparisons: expect.arrayContaining([expect.objectContaining({ metric: "goodput req/s" })]) },
      ],
    });
  });

  it("every request has another prompt of the exact length, the warm-up's too", async () => {
    const server = await start(answerWhole);
    await bench("--url", server.url, ...small, "--endpoint", "completions");
    const prompts = server.bodies.map((body) => String(body["prompt"]));
    expect(prompts).toHaveLength(5);
    expect(new Set(prompts).size).toBe(5);
    expect(prompts.map((prompt) => prompt.split(" ").length)).toEqual([12, 12, 12, 12, 12]);
  });

  it("an open loop fits as many prompts as it will send, and a long level no more than some hundred", async () => {
    const server = await start(answerWhole);
    const length = ["--isl", "4", "--osl", "2", "--warmup", "0"] as const;
    const open = await bench("--url", server.url, ...length, "--rate", "500", "--duration", "20ms");
    expect(open.out).toContain("request sent    of an open loop: when it was due");
    // The first one asks whether there is a tokenizer.
    expect(server.tokenized.length - 1).toBe(10);
    const before = server.tokenized.length;
    const closed = await bench("--url", server.url, ...length, "--concurrency", "8", "--requests", "400");
    expect(closed.out).not.toContain("when it was due");
    expect(server.tokenized.length - 1 - before).toBe(256);
  });

  it("saturate takes twice as many clients until they get no more, and says what the most was", async () => {
    const { url } = await start(answerWhole);
    const run = await bench(
      "--url",
      url,
      "--scenario",
      "saturate",
      "--isl",
      "4",
      "--osl",
      "2",
      "--json",
      "-",
    );
    const document = JSON.parse(run.out.trimEnd().split("\n").at(-1) ?? "") as {
      levels: { concurrency: number }[];
      saturation: { concurrency: number; outputTokensPerSecond: number }[];
    };
    const levels = document.levels.map(({ concurrency }) => concurrency);
    expect(levels.slice(0, 2)).toEqual([1, 2]);
    expect(document.saturation).toHaveLength(1);
    expect(levels).toContain(document.saturation[0]?.concurrency);
    expect(run.out).toMatch(/^A {3}most output \S+ tok\/s, with \d+ clients?$/m);
  });

  it("two servers get the same prompts, and a ratio is printed", async () => {
    const [a, b] = [await start(answerWhole), await start(answerWhole)];
    const { out } = await bench("--url", a.url, "--vs", b.url, ...small, "--repeat", "2");
    expect(a.bodies).toHaveLength(10);
    expect(b.bodies.map((body) => body["messages"])).toEqual(a.bodies.map((body) => body["messages"]));
    expect(out).toMatch(/^ +A +B +A\/B +95 % of A\/B$/m);
  });

  it("one server compared with itself finds no prompt twice", async () => {
    const server = await start(answerWhole);
    await bench("--url", server.url, "--vs", server.url, ...small);
    const prompts = server.bodies.map((body) => JSON.stringify(body["messages"]));
    expect(new Set(prompts).size).toBe(10);
  });

  it("failed requests are counted by kind and make the exit code 1", async () => {
    let asked = 0;
    const { url } = await start((response, body) => {
      asked += 1;
      if (asked <= 2) answerWhole(response, body);
      else sendJson(response, 503, { error: { message: "queue is full" } });
    });
    const { exitCode, out } = await bench("--url", url, ...small);
    expect(exitCode).toBe(1);
    expect(out).toContain("requests  1 ok   3 failed");
    expect(out).toContain("error: http_503 x 3   first: queue is full");
  });

  it("the scenario reports both sides of the trade", async () => {
    const { url } = await start(answerWhole);
    const { exitCode, out } = await bench(
      "--url",
      url,
      "--scenario",
      "long-beside-short",
      "--isl",
      "50",
      "--osl",
      "64",
      "--streams",
      "2",
    );
    expect(exitCode).toBe(0);
    expect(out).toMatch(/longest gap of the streams {3}before /);
    expect(out).toMatch(/long prompt +10 tokens {3}ttft /);
  });

  const embeddings = ["--scenario", "embeddings", "--isl", "5"] as const;

  it("the embeddings scenario sends several texts at once and counts what comes back", async () => {
    const vector = Buffer.from(Float32Array.of(1, 0, 0).buffer).toString("base64");
    const server = await start((response, body) => {
      const input = body["input"] as string[];
      sendJson(response, 200, {
        data: input.map(() => ({ embedding: vector })),
        usage: { prompt_tokens: 5 * input.length },
      });
    });
    const { exitCode, out } = await bench(
      "--url",
      server.url,
      ...embeddings,
      "--concurrency",
      "2",
      "--requests",
      "4",
      "--texts",
      "3",
      "--json",
      "-",
    );
    expect(exitCode).toBe(0);
    expect(out).toContain("requests  4 ok   0 failed");
    expect(out).toContain("vectors of 3 numbers");
    expect(JSON.parse(out.trimEnd().split("\n").at(-1) ?? "")).toMatchObject({
      targets: [{ endpoint: "embeddings" }],
      levels: [{ concurrency: 2, succeeded: 4, promptTokens: 60, dimensions: 3 }],
    });
    const texts = server.bodies.flatMap((body) => body["input"] as string[]);
    expect(new Set(texts).size).toBe(5 * 3);
    expect(server.bodies[0]).toMatchObject({ model: "scripted", encoding_format: "base64" });
  });

  it("an embeddings answer without a vector for each text is a failure", async () => {
    const { url } = await start((response) => sendJson(response, 200, { data: [] }));
    const { exitCode, out } = await bench(
      "--url",
      url,
      ...embeddings,
      "--concurrency",
      "1",
      "--requests",
      "2",
      "--texts",
      "2",
    );
    expect(exitCode).toBe(1);
    expect(out).toContain("error: no_output x 2   first: 0 vectors for 2 texts.");
  });

  it("files get the same document, and a page of it", async () => {
    const folder = await mkdtemp(join(tmpdir(), "weft-bench-"));
    try {
      const { url } = await start(answerWhole);
      const file = join(folder, "out.json");
      const page = join(folder, "out.html");
      await bench("--url", url, ...small, "--json", file, "--report", page);
      expect(JSON.parse(await readFile(file, "utf8"))).toMatchObject({ schema: "weft-bench/1" });
      expect(await readFile(page, "utf8")).toContain(
        "<h2>Throughput against time to first token, by number of clients</h2>",
      );
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("a server that is not there is named, with what to do", async () => {
    const server = await startScriptedServer(answerWhole);
    await server.close();
    const { exitCode, err } = await bench("--url", server.url);
    expect(exitCode).toBe(1);
    expect(err).toContain(`${server.url}/v1/models failed: ECONNREFUSED`);
    expect(err).toContain("Is the server running?");
  });

  it("wrong usage is exit code 2, and help is exit code 0 on stdout", async () => {
    expect(await bench("--requests", "none")).toMatchObject({ exitCode: 2, out: "" });
    expect(await bench("--help")).toMatchObject({ exitCode: 0, err: "" });
  });
});
