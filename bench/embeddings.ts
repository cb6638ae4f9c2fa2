/** The embeddings scenario: a closed loop of requests with several texts each, to see how fast a server reads. */
import { describeConnectionError } from "../models/command-line/connection-error.ts";
import { describeErrorBody } from "./chunk.ts";
import { readStart, requestHeaders } from "./client.ts";
import type { RequestError, Target } from "./client.ts";
import type { BenchClock } from "./clock.ts";
import type { LevelRun } from "./closed-loop.ts";
import { countErrors, rate } from "./level-summary.ts";
import type { ErrorCount } from "./level-summary.ts";
import { sum, summarize } from "./stats.ts";
import type { Summary } from "./stats.ts";

/** All times in ms of the benchmark's clock. */
export interface EmbeddingRecord {
  readonly startMs: number;
  readonly endMs: number;
  /** As the server counts them; undefined where it does not. */
  readonly promptTokens: number | undefined;
  /** Numbers of the first vector. */
  readonly dimensions: number | undefined;
  readonly error: RequestError | undefined;
}

/** Rates per second, times in ms; all but `errors` and `failed` over the requests that succeeded. */
export interface EmbeddingSummary {
  readonly succeeded: number;
  readonly failed: number;
  readonly errors: readonly ErrorCount[];
  readonly wallMs: number;
  readonly requestsPerSecond: number;
  readonly textsPerSecond: number;
  readonly promptTokens: number;
  readonly promptTokensPerSecond: number;
  readonly dimensions: number | undefined;
  readonly e2eMs: Summary;
}

/** Sends the texts as one request, its vectors as base64, which clients ask for by default. Never rejects. */
export async function requestEmbeddings(
  target: Target,
  texts: readonly string[],
  timeoutMs: number,
  clock: BenchClock,
): Promise<EmbeddingRecord> {
  const body = JSON.stringify({ model: target.model, input: texts, encoding_format: "base64" });
  const abort = new AbortController();
  const stopTimer = clock.after(timeoutMs, () => abort.abort());
  const startMs = clock.nowMs();
  const failed = (error: RequestError): EmbeddingRecord => ({
    startMs,
    endMs: clock.nowMs(),
    promptTokens: undefined,
    dimensions: undefined,
    error,
  });
  try {
    const response = await fetch(`${target.url}/v1/embeddings`, {
      method: "POST",
      headers: requestHeaders(target.apiKey),
      body,
      signal: abort.signal,
    });
    if (response.status !== 200) {
      const message = describeErrorBody(await readStart(response.body));
      return failed({ kind: `http_${response.status}`, message });
    }
    const answer = await response.text();
    const endMs = clock.nowMs();
    const read = readAnswer(answer, texts.length);
    if ("kind" in read) return failed(read);
    return { startMs, endMs, ...read, error: undefined };
  } catch (error) {
    return failed(
      abort.signal.aborted
        ? { kind: "timeout", message: `Not finished after ${timeoutMs} ms.` }
        : { kind: "connection", message: describeConnectionError(error) },
    );
  } finally {
    stopTimer();
  }
}

export function summarizeEmbeddings(
  run: LevelRun<EmbeddingRecord>,
  textsPerRequest: number,
): EmbeddingSummary {
  const succeeded = run.records.filter((record) => record.error === undefined);
  const seconds = run.wallMs / 1000;
  const promptTokens = sum(succeeded.map((record) => record.promptTokens ?? 0));
  return {
    succeeded: succeeded.length,
    failed: run.records.length - succeeded.length,
    errors: countErrors(run.records),
    wallMs: run.wallMs,
    requestsPerSecond: rate(succeeded.length, seconds),
    textsPerSecond: rate(succeeded.length * textsPerRequest, seconds),
    promptTokens,
    promptTokensPerSecond: rate(promptTokens, seconds),
    dimensions: succeeded[0]?.dimensions,
    e2eMs: summarize(succeeded.map((record) => record.endMs - record.startMs)),
  };
}

interface EmbeddingAnswer {
  readonly data?: readonly { readonly embedding?: unknown }[];
  readonly usage?: { readonly prompt_tokens?: unknown };
}

function readAnswer(
  text: string,
  texts: number,
): Pick<EmbeddingRecord, "promptTokens" | "dimensions"> | RequestError {
  const answer = parseAnswer(text);
  const vectors = answer?.data?.map(({ embedding }) => dimensionsOf(embedding)) ?? [];
  if (vectors.length !== texts || vectors.some((dimensions) => dimensions === undefined)) {
    return { kind: "no_output", message: `${vectors.length} vectors for ${texts} texts.` };
  }
  const tokens = answer?.usage?.prompt_tokens;
  return { promptTokens: typeof tokens === "number" ? tokens : undefined, dimensions: vectors[0] };
}

function parseAnswer(text: string): EmbeddingAnswer | undefined {
  try {
    return JSON.parse(text) as EmbeddingAnswer;
  } catch {
    return undefined;
  }
}

/** Undefined for what is no vector; servers that know no base64 send numbers. */
function dimensionsOf(embedding: unknown): number | undefined {
  if (typeof embedding === "string")
    return Buffer.byteLength(embedding, "base64") / Float32Array.BYTES_PER_ELEMENT;
  return Array.isArray(embedding) ? embedding.length : undefined;
}
