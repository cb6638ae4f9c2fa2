/** One measurement of `weft tune`: the load is the one that was asked for, and the figures are its requests'. */
import { afterEach, expect, test } from "vitest";
import { realClock } from "../../../bench/clock.ts";
import { measureServer } from "../../../bench/tune/measure.ts";
import { answerWhole, startScriptedServer } from "../scripted-server.ts";
import type { ScriptedServer } from "../scripted-server.ts";

let server: ScriptedServer | undefined;
afterEach(() => server?.close());

test("sends the requests, clients, prompts and answers that it was told, and one to warm up", async () => {
  let asked = 0;
  let open = 0;
  let most = 0;
  const held: (() => void)[] = [];
  server = await startScriptedServer((response, body) => {
    asked += 1;
    if (asked > 1) {
      open += 1;
      most = Math.max(most, open);
      response.once("close", () => (open -= 1));
    }
    held.push(() => answerWhole(response, body));
    // The one to warm up alone, and the others when all three are there.
    if (asked === 1 || asked === 4) for (const answer of held.splice(0)) answer();
  });
  const load = { clients: 3, promptTokens: 7, outputTokens: 5, requests: 3 };
  const measured = await measureServer(server.url, load, { clock: realClock, timeoutMs: 10_000 });
  expect(server.bodies).toHaveLength(4);
  expect(server.bodies.map((body) => [body["max_tokens"], String(body["prompt"]).split(" ").length])).toEqual(
    Array.from({ length: 4 }, () => [5, 7]),
  );
  expect(most).toBe(3);
  expect(measured.outputPerSecond).toBeGreaterThan(0);
});
