/** Ends a serving process: running requests first, then engines, sockets and the process. */
import type { Log } from "../deps.ts";
import type { HttpServer } from "../server.ts";

/** Streams that outlived the drain get this long to send their error frame. */
const LAST_FRAMES_MS = 1000;

export interface ShutdownParts {
  readonly server: Pick<HttpServer, "leave" | "drain" | "close" | "openResponses">;
  /** What runs without a client that waits for it. */
  readonly background: { close(): void };
  readonly models: { stop(): Promise<void>; kill(): void };
  /** Between the end of readiness and the first refusal. */
  readonly drainSettleMs: number;
  readonly drainTimeoutMs: number;
  readonly log: Log;
}

/**
 * Readiness fails at once and new requests are refused after `drainSettleMs`; running ones get `drainTimeoutMs`, and what still runs
 * then ends with an error frame, and what runs in the background is cancelled. Aborting `hurry` skips the wait. Never rejects.
 */
export async function shutDown(parts: ShutdownParts, hurry: AbortSignal): Promise<void> {
  const { server, background, models, drainSettleMs, drainTimeoutMs, log } = parts;
  log.info({ open: server.openResponses, drainTimeoutMs }, "shutting down");
  if (drainSettleMs > 0) await server.leave(drainSettleMs, hurry);
  const drained = await server.drain(drainTimeoutMs, hurry);
  hurry.addEventListener("abort", () => models.kill(), { once: true });
  background.close();
  if (drained) {
    await Promise.all([models.stop(), server.close(LAST_FRAMES_MS)]);
  } else {
    log.warn({ open: server.openResponses }, "ending requests that are still running");
    // Each open request fails with the engine's end, and its stream says so.
    models.kill();
    await server.close(LAST_FRAMES_MS);
  }
  log.info({}, "stopped");
}
