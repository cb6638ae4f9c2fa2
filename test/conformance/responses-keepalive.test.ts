/** What a silent stream of the Responses API says, so that clients do not take it for dead. */
import { expect, test } from "vitest";
import { lintResponseEvents } from "../../src/conformance/response-events-lint.ts";
import { readSse } from "../../src/conformance/sse-grammar.ts";
import { listenTestApp } from "../support/listen.ts";
import { EOS, idsOf } from "../support/tiny-vocabulary.ts";

test("T78 a long silence is filled with keepalive events that carry data", async () => {
  const app = await listenTestApp({ config: { sseKeepAliveSeconds: 0.005 } });
  app.engine.script = { kind: "accept" };
  const response = await fetch(`${app.baseURL}/v1/responses`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "tiny", input: "hi", stream: true }),
  });
  const [submit] = app.engine.submits;
  if (submit === undefined || response.body === null) throw new Error("nothing was submitted");
  const decoder = new TextDecoder();
  let text = "";
  let answered = false;
  for await (const bytes of response.body) {
    text += decoder.decode(bytes, { stream: true });
    if (answered || text.split("event: keepalive\n").length < 3) continue;
    answered = true;
    app.engine.step(submit, { tokens: idsOf("Hel") }, true);
    app.engine.step(submit, { tokens: [EOS], finish: { reason: "stop", stopToken: EOS } }, false);
  }
  await app.close();
  expect(lintResponseEvents(text)).toEqual([]);
  const beats = readSse(text).events.filter(({ event }) => event === "keepalive");
  expect(beats.length).toBeGreaterThanOrEqual(2);
  for (const { data } of beats) {
    expect(JSON.parse(data)).toEqual({ type: "keepalive", sequence_number: expect.any(Number) });
  }
  expect(readSse(text).comments).toBe(0);
});
