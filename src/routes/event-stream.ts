/** Answers with a stream of events: straight to the socket, or as a body where there is none. */
import { socketOf } from "../middleware/write-body.ts";
import { responseSink, sendFrames, SSE_HEADERS, sseBody } from "../http/sse.ts";
import type { SseOptions } from "../http/sse.ts";
import type { AppContext } from "./env.ts";

/** @param frames As `sendFrames` takes them. The request's scope stays open until they have been sent. */
export function eventStream(
  c: AppContext,
  frames: AsyncGenerator<string, void, void>,
  headers: Readonly<Record<string, string>>,
  keepAlive: Pick<SseOptions, "keepAliveMs" | "keepAlive">,
): Response {
  const scope = c.get("scope");
  scope.hold();
  const options: SseOptions = {
    ...keepAlive,
    signal: scope.signal,
    onCancel: () => scope.abort(),
    onEnd: () => scope.end(),
  };
  const head = { headers: { ...SSE_HEADERS, ...headers } };
  if (socketOf(c) === undefined) return new Response(sseBody(frames, options), head);
  c.set("writeBody", (response) => void sendFrames(frames, responseSink(response), options));
  return new Response(null, head);
}
