/** A completion of a running server that is being streamed when a test goes on. */
import { expect } from "vitest";
import type { ServerClient } from "./server.ts";
import { eventsOf } from "./sse-reader.ts";

/** A stream whose first event has been read. */
export async function begunStream(
  server: ServerClient,
  maxTokens = 800,
): Promise<AsyncGenerator<string, void, void>> {
  const events = eventsOf(
    await server.post("/v1/completions", {
      model: "pocket",
      prompt: "1, 2, 3,",
      max_tokens: maxTokens,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    }),
  );
  expect((await events.next()).done).toBe(false);
  return events;
}
