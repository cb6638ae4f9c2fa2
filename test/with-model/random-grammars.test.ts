/** Grammars that nobody has thought of, given to the real model: each is obeyed or refused. */
import { expect, inject, test } from "vitest";
import { GrammarMatcher } from "../../models/grammar/matcher.ts";
import { parseGbnf } from "../../models/grammar/parse-gbnf.ts";
import { seededRandom } from "../support/grammar-sampler.ts";
import { randomGrammarText } from "../support/grammar-text.ts";
import { serverAt } from "../support/server.ts";
import { eventsOf } from "../support/sse-reader.ts";

/** Also a long run's: WEFT_FUZZ_GRAMMARS=10000, from WEFT_FUZZ_SEED on. */
const GRAMMARS = Number(process.env["WEFT_FUZZ_GRAMMARS"] ?? 60);
const FIRST_SEED = Number(process.env["WEFT_FUZZ_SEED"] ?? 0);
/** Fewer than the server has slots, so that the stream beside them never waits for one. */
const AT_ONCE = 3;
const MAX_TOKENS = 24;
/** What is matched of an answer here; a longer one says no more. */
const MOST_MATCHED = 400;

const server = serverAt(inject("serverUrl"));

interface Answer {
  readonly choices?: readonly { readonly text: string; readonly finish_reason: string }[];
  readonly error?: { readonly param: unknown; readonly message: string };
}

type Outcome = "finished" | "cut off" | "refused";

async function outcomeOf(seed: number): Promise<readonly [Outcome, problem?: unknown]> {
  const grammar = randomGrammarText(seededRandom(seed));
  const response = await server.post("/v1/completions", {
    model: "pocket",
    prompt: "1, 2, 3,",
    temperature: seed % 2,
    seed,
    max_tokens: MAX_TOKENS,
    grammar,
  });
  const text = await response.text();
  const { choices: [choice] = [], error } = JSON.parse(text) as Answer;
  if (response.status === 400) return ["refused", error?.param === "grammar" ? undefined : text];
  if (response.status !== 200 || choice === undefined) return ["refused", [response.status, text, grammar]];
  if (choice.finish_reason === "length") return ["cut off"];
  // What is left of a character that was cut is shown as such.
  if (choice.text.length > MOST_MATCHED || choice.text.includes("\ufffd")) return ["finished"];
  const obeyed = new GrammarMatcher(parseGbnf(grammar)).accepts(choice.text);
  return ["finished", obeyed ? undefined : [choice.text, grammar]];
}

/** One stream after the other until told to stop. @returns The longest time between two events, in ms. */
async function streamBeside(stopped: () => boolean): Promise<number> {
  let longestMs = 0;
  for (let lastMs = performance.now(); !stopped();) {
    const body = { model: "pocket", prompt: "1, 2, 3,", max_tokens: 200, ignore_eos: true, stream: true };
    const response = await server.post("/v1/completions", body);
    for await (const event of eventsOf(response)) {
      expect(event).not.toContain('"error":');
      const nowMs = performance.now();
      longestMs = Math.max(longestMs, nowMs - lastMs);
      lastMs = nowMs;
    }
  }
  return longestMs;
}

test(
  "answers to random grammars obey them, and no grammar is met with a 5xx",
  { timeout: 3_600_000 },
  async ({ annotate }) => {
    const counts = { finished: 0, "cut off": 0, refused: 0 };
    const problems: unknown[] = [];
    let slowest = { ms: 0, seed: 0 };
    let stopped = false;
    const beside = streamBeside(() => stopped);
    beside.catch(() => undefined);
    let next = FIRST_SEED;
    const worker = async (): Promise<void> => {
      while (next < FIRST_SEED + GRAMMARS) {
        const seed = next++;
        const beganMs = performance.now();
        const [kind, problem] = await outcomeOf(seed);
        const ms = Math.round(performance.now() - beganMs);
        if (ms > slowest.ms) slowest = { ms, seed };
        counts[kind]++;
        if (problem !== undefined) problems.push([seed, problem]);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    stopped = true;
    const longestGapMs = Math.round(await beside);
    await annotate(JSON.stringify({ ...counts, slowest, longestGapMs }));
    expect(problems).toEqual([]);
    expect(counts.finished).toBeGreaterThan(0);
    expect(counts["cut off"]).toBeGreaterThan(0);
    expect(counts.refused).toBeGreaterThan(0);
  },
);
