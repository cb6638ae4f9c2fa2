/** Thousands of bodies that no client means: each is answered in good order, none with a 5xx, none never, none for ever. */
import { expect, test } from "vitest";
import { ResponseStore } from "../../src/responses/response-store.ts";
import { Responses } from "../../src/responses/responses.ts";
import { BodyMutator, seededRandom } from "../support/body-mutator.ts";
import { heapInUse } from "../support/garbage.ts";
import { REQUEST_BODIES } from "../support/request-bodies.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { createTestApp } from "../support/test-app.ts";
import { EOS } from "../support/tiny-vocabulary.ts";

/** Also a long run's: WEFT_FUZZ_BODIES=100000. */
const BODIES = Number(process.env["WEFT_FUZZ_BODIES"] ?? 2000);
const SEED = Number(process.env["WEFT_FUZZ_SEED"] ?? 1);

/** Far above what a body takes on a busy machine. */
const MOST_MS = 60_000 + BODIES * 30;

/** So few stored responses that the store is full long before the heap is looked at. */
const STORED = { responses: 20, size: 1 << 16 };
/** More than code that V8 compiles late takes, and less than a leak of one small object a body in a long run. */
const MOST_GROWTH_BYTES = 4 << 20;

test(
  "mutated bodies get no 5xx, are refused in OpenAI's shape, and leave nothing behind",
  async (context) => {
    const store = new ResponseStore(STORED, () => 1_730_000_000);
    const { engine, post, log, template } = createTestApp({ responses: new Responses(store) });
    const random = seededRandom(SEED);
    const mutator = new BodyMutator(random);
    const statuses = new Map<number, number>();
    const heaps: number[] = [];
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
      // The doubles remember all that they were given.
      log.length = 0;
      engine.commands.length = 0;
      template.requests.length = 0;
      if ((i + 1) % Math.ceil(BODIES / 3) === 0 || i + 1 === BODIES) heaps.push(await heapInUse());
    }
    // The mutations must not be so wild that nothing is ever served.
    expect(statuses.get(200) ?? 0).toBeGreaterThan(BODIES / 20);
    expect(statuses.get(400) ?? 0).toBeGreaterThan(BODIES / 20);
    await context.annotate(
      `heap after each third, MB: ${heaps.map((bytes) => (bytes / 1e6).toFixed(1)).join(", ")}`,
    );
    const [afterFirst = 0, , afterLast = Infinity] = heaps;
    expect(afterLast - afterFirst).toBeLessThan(MOST_GROWTH_BYTES);
  },
  MOST_MS,
);

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
