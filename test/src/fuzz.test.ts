/** Thousands of bodies that no client means: each is answered in good order, none with a 5xx, none never. */
import { expect, test } from "vitest";
import { BodyMutator, seededRandom } from "../support/body-mutator.ts";
import { REQUEST_BODIES } from "../support/request-bodies.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { createTestApp } from "../support/test-app.ts";
import { EOS } from "../support/tiny-vocabulary.ts";

/** Also a long run's: WEFT_FUZZ_BODIES=100000. */
const BODIES = Number(process.env["WEFT_FUZZ_BODIES"] ?? 2000);
const SEED = Number(process.env["WEFT_FUZZ_SEED"] ?? 1);

test("mutated bodies never get a 5xx, and what is refused is refused in OpenAI's shape", async () => {
  const { engine, post, log } = createTestApp();
  const random = seededRandom(SEED);
  const mutator = new BodyMutator(random);
  const statuses = new Map<number, number>();
  for (let i = 0; i < BODIES; i++) {
    const [path, body] = mutator.pick(REQUEST_BODIES);
    engine.script = sayThenStop(
      mutator.pick(["Hello", "", '<think>lo</think>{"city":"Paris"}', "é😀END"]),
      EOS,
    );
    const sent = mutator.mutate(body);
    const response = await post(path, sent);
    const text = await response.text();
    const { status } = response;
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    const told = log.at(-1)?.fields;
    // What an engine that says no says is not looked for here.
    if (status >= 500 || (status !== 200 && !isErrorBody(text)) || isBrokenStream(response, text)) {
      throw new Error(
        `body ${i} to ${path}: ${status} ${text.slice(-500)}\n${sent}\n${JSON.stringify(told)}`,
      );
    }
    log.length = 0;
    engine.commands.length = 0;
  }
  // The mutations must not be so wild that nothing is ever served.
  expect(statuses.get(200) ?? 0).toBeGreaterThan(BODIES / 20);
  expect(statuses.get(400) ?? 0).toBeGreaterThan(BODIES / 20);
}, 600_000);

function isErrorBody(text: string): boolean {
  const { error } = JSON.parse(text) as { error?: Record<string, unknown> };
  return (
    typeof error?.["message"] === "string" &&
    typeof error["type"] === "string" &&
    [error["param"], error["code"]].every((value) => value === null || typeof value === "string")
  );
}

/** An error frame, or an end without [DONE] where there has to be one. */
function isBrokenStream(response: Response, text: string): boolean {
  if (response.headers.get("content-type")?.startsWith("text/event-stream") !== true) return false;
  if (/^data: \{"error":/m.test(text)) return true;
  return !text.startsWith("event: ") && !text.endsWith("data: [DONE]\n\n");
}
