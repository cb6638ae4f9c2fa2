/** Server-sent events: frames as bytes, written to the socket at the speed of the client. */
import type { ServerResponse } from "node:http";

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

/** What takes frames; nothing of it throws, whether somebody still reads or not. */
export interface FrameSink {
  /** @returns What resolves when there is room for more, or when nobody reads any more; undefined: there is room. */
  write(text: string): Promise<void> | undefined;
  end(): void;
}

/**
 * Sends frames to their end. A frame is asked for only when the client has room for it, so what is unsent is a
 * socket's buffer at most. `frames` must not throw: by then it is too late for an error status.
 */
export async function sendFrames(
  frames: AsyncGenerator<string, void, void>,
  sink: FrameSink,
  options: SseOptions,
): Promise<void> {
  const { keepAliveMs, keepAlive, signal } = options;
  let timer: NodeJS.Timeout | undefined;
  let isFull = false;
  let ended = false;
  const end = (): void => {
    if (ended) return;
    ended = true;
    clearInterval(timer);
    signal.removeEventListener("abort", leave);
    options.onEnd();
  };
  // At once: the next frame may be far away.
  const leave = (): void => {
    end();
    sink.end();
    void frames.return();
  };
  signal.addEventListener("abort", leave, { once: true });
  if (signal.aborted) return leave();
  const write = (text: string): Promise<void> | undefined => {
    const room = sink.write(text);
    isFull = room !== undefined;
    return room?.then(() => void (isFull = false));
  };
  if (keepAliveMs > 0) {
    timer = setInterval(() => {
      // A client that has not even read the last one needs no other.
      if (!isFull) void write(keepAlive?.() ?? KEEP_ALIVE);
    }, keepAliveMs);
  }
  for await (const frame of frames) {
    if (ended) return;
    // Comments between tokens confuse some clients, and a stream that flows needs none.
    if (keepAlive === undefined) clearInterval(timer);
    else timer?.refresh();
    const room = write(frame);
    if (room !== undefined) await room;
    if (ended) return;
  }
  if (ended) return;
  sink.end();
  end();
}

/** Writes to the socket itself; the head must have been written. A web stream in between has its price for each token. */
export function responseSink(response: ServerResponse): FrameSink {
  // Without a listener a client that goes in the wrong moment would end the process; its leaving is heard elsewhere.
  response.on("error", () => undefined);
  return {
    write(text) {
      if (response.destroyed || response.write(text)) return undefined;
      return new Promise((resolve) => {
        const done = (): void => {
          response.off("drain", done).off("close", done);
          resolve();
        };
        response.on("drain", done).on("close", done);
      });
    },
    end() {
      if (!response.destroyed) response.end();
    },
  };
}

/** The same as a body, for an application that runs without a socket. */
export function sseBody(
  frames: AsyncGenerator<string, void, void>,
  options: SseOptions,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let hasBegun = false;
  let hasEnded = false;
  let onRoom: (() => void) | undefined;
  const sinkOf = (controller: ReadableStreamDefaultController<Uint8Array>): FrameSink => ({
    write(text) {
      if (hasEnded) return undefined;
      controller.enqueue(encoder.encode(text));
      return new Promise((resolve) => (onRoom = resolve));
    },
    end() {
      if (!hasEnded) controller.close();
      hasEnded = true;
    },
  });
  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        onRoom?.();
        if (!hasBegun) void sendFrames(frames, sinkOf(controller), options);
        hasBegun = true;
      },
      cancel() {
        hasEnded = true;
        options.onCancel();
        onRoom?.();
      },
    },
    { highWaterMark: 0 },
  );
}
