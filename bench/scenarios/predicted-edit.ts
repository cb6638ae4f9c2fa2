/**
 * A file is rewritten with one change, with and without telling the server what to expect: how much faster is it, and is
 * the answer the same?
 *
 * The file is what the model itself writes, drawn with a seed, and the expected text is that with one word changed: so the
 * figure says what the server makes of a prediction, whatever the model can do. The file is not in the prompt, where a
 * server might find its guesses without being told; and draws at temperature 1 do not repeat themselves, so that nothing
 * but the prediction can be guessed from.
 */
import type { RequestRecord } from "../client.ts";
import { formatErrors, formatSummary, number, SUMMARY_HEAD } from "../format.ts";
import { countErrors, vllmResultOf } from "../level-summary.ts";
import { median, sum, summarize } from "../stats.ts";
import type { Scenario, ScenarioTurn, TurnResult } from "./scenario.ts";
import { warmUp } from "./warm-up.ts";

interface Settings {
  readonly requests: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

/** The two ways in which a file was asked for. */
interface Edit {
  readonly without: RequestRecord;
  readonly predicted: RequestRecord;
}

export const predictedEdit: Scenario = {
  name: "predicted-edit",
  about:
    "--requests files (4) of --osl tokens (160) are written with and without a prediction that is wrong in one word",
  takes: ["requests", "isl", "osl"],
  chatOnly: true,
  formulas: [
    "speed           (output tokens - 1) / (request ended - first output)",
    "ratio           speed with the prediction / without, file by file; the median",
    "equal           files that came out the same both ways",
    "accepted        predicted tokens that came true, by the server's usage",
  ],
  plan: ({ requests = 4, isl: promptTokens = 64, osl: outputTokens = 160 }) => {
    const settings = { requests, promptTokens, outputTokens };
    return { settings, run: (turn) => runTurn(turn, settings) };
  },
};

async function runTurn(turn: ScenarioTurn, settings: Settings): Promise<TurnResult> {
  const { requests, promptTokens, outputTokens } = settings;
  const { target, seed, timeoutMs } = turn;
  const lengths = { promptTokens, sharedPrefixTokens: 0 };
  const prompts = await turn.prompts(0, lengths, requests);
  await warmUp(turn, 1, lengths, outputTokens);
  const edits: Edit[] = [];
  const failed: RequestRecord[] = [];
  for (let index = 0; index < requests; index++) {
    const ask = (prediction: string | undefined): Promise<RequestRecord> =>
      turn.send(target, {
        prompt: prompts.prompt(index),
        outputTokens,
        seed: (seed + index) >>> 0,
        timeoutMs,
        keepAnswer: true,
        fields: {
          temperature: 1,
          ...(prediction === undefined ? {} : { prediction: { type: "content", content: prediction } }),
        },
      });
    // Also fills the cache, so that both have their prompt computed.
    const file = await ask(undefined);
    if (file.error !== undefined) {
      failed.push(file);
      continue;
    }
    const expected = changed(file.answer ?? "");
    // In turns: whoever goes second finds a warmer machine.
    const first = await ask(index % 2 === 0 ? undefined : expected);
    const second = await ask(index % 2 === 0 ? expected : undefined);
    edits.push(
      index % 2 === 0 ? { without: first, predicted: second } : { without: second, predicted: first },
    );
  }
  return resultOf(edits, failed);
}

/** The same text with the word in its middle replaced. */
export function changed(text: string): string {
  const words = text.split(" ");
  words[words.length >> 1] = "changed";
  return words.join(" ");
}

function resultOf(edits: readonly Edit[], failed: readonly RequestRecord[]): TurnResult {
  const records = edits.flatMap(({ without, predicted }) => [without, predicted]);
  const errors = countErrors([...failed, ...records]);
  const whole = edits.filter(
    ({ without, predicted }) => without.error === undefined && predicted.error === undefined,
  );
  const speeds = whole.map(({ without, predicted }) => [speedOf(without), speedOf(predicted)] as const);
  const ratio = median(
    speeds.flatMap(([plain, guided]) =>
      plain === undefined || guided === undefined ? [] : [guided / plain],
    ),
  );
  const equal = whole.filter(({ without, predicted }) => without.answer === predicted.answer).length;
  const counts = whole.flatMap(({ predicted }) => predicted.acceptedTokens ?? []);
  // Undefined where the server does not say.
  const accepted = counts.length === 0 ? undefined : sum(counts);
  const plain = summarize(speeds.flatMap(([speed]) => speed ?? []));
  const guided = summarize(speeds.flatMap(([, speed]) => speed ?? []));
  return {
    figures: {
      ratio,
      "equal %": whole.length === 0 ? undefined : (100 * equal) / whole.length,
      "predicted tok/s": guided.p50,
      "without tok/s": plain.p50,
      "accepted tokens": accepted,
    },
    lines: [
      `predicted / without ${number(ratio)}   equal ${equal} of ${whole.length}   accepted ${accepted ?? "-"} tokens`,
      SUMMARY_HEAD,
      formatSummary("without tok/s", plain),
      formatSummary("predicted tok/s", guided),
      ...formatErrors(errors),
    ],
    summary: {
      ratio,
      equal,
      edits: whole.length,
      accepted,
      withoutSpeed: plain,
      predictedSpeed: guided,
      ...vllmResultOf(records),
    },
    errors,
    records,
  };
}

/** Tokens a second from the first one on; undefined for fewer than two. */
function speedOf({ outputMs, endMs, outputTokens }: RequestRecord): number | undefined {
  const firstMs = outputMs[0];
  if (firstMs === undefined || outputTokens < 2 || endMs <= firstMs) return undefined;
  return (outputTokens - 1) / ((endMs - firstMs) / 1000);
}
