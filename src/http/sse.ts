/** Server-sent events: frames as bytes, pulled by the socket at the speed of the client. */

const KEEP_ALIVE = ": keep-alive\n\n";

export const DONE_FRAME = "data: [DONE]\n\n";

/** No `connection`: node:http says what it does, and must be free to close for a client that asked for it. */
export const SSE_HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache",
  // Stops nginx from collecting the stream before it passes it on.
  "x-accel-buffering": "no",
} as const;

export interface SseOptions {
  /** Silence after which the client is sent something, in ms; 0 is never. */
  readonly keepAliveMs: number;
  /** Writes what is sent in any silence; without it, it is a comment, before the first frame only. */
  readonly keepAlive?: () => string;
  /** Aborts when the client has gone, even if nobody reads the body any more. */
  readonly signal: AbortSignal;
  /** The reader of the body has gone. */
  readonly onCancel: () => void;
  /** Once, after the last byte or the client's leaving. */
  readonly onEnd: () => void;
}

/** An event whose name is its `type`. */
export function eventFrame(event: { readonly type: string; readonly [key: string]: unknown }): string {
  return `event: ${event.type}\n${sseFrame(event)}`;
}

export function sseFrame(data: object): string {
  return `data: ${JSON.stringify(data)}\n\n`;
}

/**
 * Turns frames into a body. A frame is asked for only when the client has room for it, so what is unsent is one
 * frame at most. `frames` must not throw: by then it is too late for an error status.
 */
export function sseBody(
  frames: AsyncGenerator<string, void, void>,
  options: SseOptions,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const { keepAliveMs, keepAlive } = options;
  let timer: NodeJS.Timeout | undefined;
  let ended = false;
  let cancelled = false;
  const end = (): void => {
    if (ended) return;
    ended = true;
    clearInterval(timer);
    options.signal.removeEventListener("abort", end);
    options.onEnd();
  };
  options.signal.addEventListener("abort", end, { once: true });
  if (options.signal.aborted) end();
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        if (keepAliveMs <= 0 || options.signal.aborted) return;
        timer = setInterval(() => {
          // A client that has not even read the last one needs no other.
          if ((controller.desiredSize ?? -1) < 0) return;
          controller.enqueue(encoder.encode(keepAlive?.() ?? KEEP_ALIVE));
        }, keepAliveMs);
      },
      async pull(controller) {
        const next = await frames.next();
        // Comments between tokens confuse some clients, and a stream that flows needs none.
        if (keepAlive === undefined) clearInterval(timer);
        else timer?.refresh();
        if (cancelled) return;
        if (next.done !== true) return controller.enqueue(encoder.encode(next.value));
        controller.close();
        end();
      },
      async cancel() {
        cancelled = true;
        options.onCancel();
        await frames.return();
        end();
      },
    },
    { highWaterMark: 0 },
  );
}
