/** The responses of a serving process, with the file they are kept in when one was named. */
import { ConfigError } from "../config/config-error.ts";
import type { Log } from "../deps.ts";
import { ResponseFile } from "../responses/response-file.ts";
import { DEFAULT_STORE_LIMITS, ResponseStore } from "../responses/response-store.ts";
import { Responses } from "../responses/responses.ts";

export interface OpenResponses {
  readonly responses: Responses;
  /** Cancels what runs in the background and resolves when everything is written. */
  close(): Promise<void>;
}

/**
 * @param path Undefined keeps them in memory alone.
 * @throws {ConfigError} For a file that cannot be read or written.
 */
export async function openResponses(
  path: string | undefined,
  { log, epochSeconds }: { readonly log: Log; readonly epochSeconds: () => number },
): Promise<OpenResponses> {
  const file =
    path === undefined
      ? undefined
      : new ResponseFile({ path, onProblem: (err, message) => log.warn({ err, path }, message) });
  const store = new ResponseStore(DEFAULT_STORE_LIMITS, epochSeconds, file);
  const responses = new Responses(store);
  if (file !== undefined) {
    try {
      store.restore(await file.read());
      await file.start(store);
    } catch (cause) {
      const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
      throw new ConfigError(`Cannot use the file ${path} (${code}); check --responses-store.`);
    }
  }
  return {
    responses,
    async close() {
      responses.close();
      await file?.flush();
    },
  };
}
