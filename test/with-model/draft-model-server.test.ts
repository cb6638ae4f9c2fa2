/** The built server with pocket and its draft model: the known answers, many at once, and after its engine has died. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { childrenOf, startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";

interface Prompt {
  readonly name: string;
  readonly messages?: readonly object[];
  readonly tools?: readonly object[];
  readonly options: {
    readonly temperature: number;
    readonly max_tokens: number;
    readonly enable_thinking?: boolean;
  };
  readonly expected: string;
}

interface Answer {
  readonly choices: readonly { readonly message: { readonly content: string } }[];
  readonly usage: {
    readonly completion_tokens: number;
    readonly completion_tokens_details: { readonly accepted_prediction_tokens: number };
  };
  readonly timings: { readonly draft_n_accepted?: number };
}

/** Two tokens are so close there that the processor's kernels decide which one comes. */
const CLOSE_CALLS: ReadonlySet<string> = new Set(["story-long"]);
const prompts = readFileSync("test/fixtures/pocket-prompts.jsonl", "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Prompt)
  .filter(
    ({ name, messages, tools, options }) =>
      messages !== undefined &&
      tools === undefined &&
      options.enable_thinking !== true &&
      !CLOSE_CALLS.has(name),
  );

let server: RunningServer;
beforeAll(async () => {
  server = await startServer("--draft-model", "pocket-draft", "--speculation", "on", "--slots", "4");
});
afterAll(() => server.stop());

async function ask({ messages, options }: Prompt): Promise<Answer> {
  const { temperature, max_tokens } = options;
  const response = await server.post("/v1/chat/completions", {
    model: "pocket",
    messages,
    temperature,
    max_tokens,
  });
  return (await response.json()) as Answer;
}

async function checkAll(): Promise<void> {
  const answers = await Promise.all(prompts.map(ask));
  prompts.forEach(({ name, expected }, i) =>
    expect([name, answers[i]?.choices[0]?.message.content]).toEqual([name, expected]),
  );
  for (const { usage, timings } of answers) {
    expect(timings.draft_n_accepted ?? 0).toBeLessThan(usage.completion_tokens);
    expect(usage.completion_tokens_details.accepted_prediction_tokens).toBe(0);
  }
}

test("answers are what they are without it, and it is told of", async () => {
  await checkAll();
  const props = await (await fetch(`${server.url}/props`)).json();
  expect(props).toMatchObject({ draft_model: { name: "Pocket Draft", n_params: 180_416 } });
  expect(await (await fetch(`${server.url}/slots`)).json()).toMatchObject(
    Array.from({ length: 4 }, () => ({ speculative: true })),
  );
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  expect(metrics).toMatch(
    /^weft_guessed_tokens_total\{model="pocket",source="draft_model",outcome="right"\} \d+$/m,
  );
});

test("after the engine has died it is there again, and no answer is lost", async () => {
  const answers = checkAll();
  await server.loadThat("a busy slot", ({ busySlots }) => busySlots > 0);
  const [engine] = await childrenOf(server.pid);
  if (engine === undefined) throw new Error("There is no engine process.");
  process.kill(engine, "SIGKILL");
  await answers;
  await checkAll();
  expect(await (await fetch(`${server.url}/slots`)).json()).toMatchObject([
    { speculative: true },
    {},
    {},
    {},
  ]);
});
