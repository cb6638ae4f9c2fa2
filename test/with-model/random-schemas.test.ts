/** Answers of the real model to schemas that nobody has thought of: each one that is finished is what its schema says. */
import { expect, inject, test } from "vitest";
import { seededRandom } from "../support/grammar-sampler.ts";
import { SchemaMaker } from "../support/schema-arbitrary.ts";
import { schemaOracle } from "../support/schema-oracle.ts";
import { serverAt } from "../support/server.ts";

/** Also a long run's: WEFT_FUZZ_SCHEMAS=10000, from WEFT_FUZZ_SEED on. */
const SCHEMAS = Number(process.env["WEFT_FUZZ_SCHEMAS"] ?? 24);
const FIRST_SEED = Number(process.env["WEFT_FUZZ_SEED"] ?? 0);
/** As many as the server has slots. */
const AT_ONCE = 4;
/** A free text has no end that the model has to find; this bounds what is spent on one. */
const MAX_TOKENS = 150;
const PROMPTS = ["Hello", "Tell me a story about a fox.", "Extract name and age as JSON: Bob is 42."];

interface Outcome {
  readonly kind: "finished" | "cut off" | "refused";
  readonly problem?: unknown;
}

interface Answer {
  readonly choices?: readonly {
    readonly message: { readonly content: string };
    readonly finish_reason: string;
  }[];
  readonly error?: { readonly param: unknown };
}

const server = serverAt(inject("serverUrl"));

async function outcomeOf(seed: number): Promise<Outcome> {
  const schema = new SchemaMaker(seededRandom(seed)).document();
  const response = await server.post("/v1/chat/completions", {
    model: "pocket",
    messages: [{ role: "user", content: PROMPTS[seed % PROMPTS.length] }],
    temperature: seed % 2,
    seed,
    max_tokens: MAX_TOKENS,
    response_format: { type: "json_schema", json_schema: { name: "random", strict: true, schema } },
  });
  const text = await response.text();
  const { choices: [choice] = [], error } = JSON.parse(text) as Answer;
  if (response.status === 400) {
    const ours = String(error?.param).startsWith("response_format");
    return ours ? { kind: "refused" } : { kind: "refused", problem: text };
  }
  if (response.status !== 200 || choice === undefined) {
    return { kind: "refused", problem: [response.status, text, schema] };
  }
  if (choice.finish_reason === "length") return { kind: "cut off" };
  const { content } = choice.message;
  const problem = errorsIn(content, schema);
  return problem === null ? { kind: "finished" } : { kind: "finished", problem: [content, problem, schema] };
}

function errorsIn(content: string, schema: object): unknown {
  try {
    return schemaOracle(schema)(JSON.parse(content));
  } catch (error) {
    return String(error);
  }
}

test(
  "finished answers to random schemas are valid, and no schema is met with a 5xx",
  { timeout: 3_600_000 },
  async ({ annotate }) => {
    const counts = { finished: 0, "cut off": 0, refused: 0 };
    const problems: unknown[] = [];
    for (let done = 0; done < SCHEMAS; done += AT_ONCE) {
      const seeds = Array.from(
        { length: Math.min(AT_ONCE, SCHEMAS - done) },
        (_, i) => FIRST_SEED + done + i,
      );
      const outcomes = await Promise.all(seeds.map(async (seed) => ({ seed, ...(await outcomeOf(seed)) })));
      for (const outcome of outcomes) {
        counts[outcome.kind]++;
        if (outcome.problem !== undefined) problems.push([outcome.seed, outcome.problem]);
      }
    }
    await annotate(JSON.stringify(counts));
    expect(problems).toEqual([]);
    expect(counts.finished).toBeGreaterThan(SCHEMAS / 3);
  },
);
