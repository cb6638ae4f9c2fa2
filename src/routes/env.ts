/** What a handler finds in its hono context. */
import type { HttpBindings } from "@hono/node-server";
import type { Context } from "hono";
import type { Allowance } from "../../engine/sharing.ts";
import type { Served } from "../generation-events.ts";
import type { ServerResponse } from "node:http";
import type { ApiErrorCode } from "../openai/api-error.ts";
import type { RequestScope } from "../http/request-signal.ts";
import type { Endpoint } from "../metrics/metrics.ts";
import type { Outcome } from "../metrics/outcome.ts";

/** Notes for the one log line and the counters of a request, written by whoever learns them. */
export interface RequestNotes {
  endpoint: Endpoint;
  /** Set when the outcome is known better than the status tells. */
  outcome: Outcome | undefined;
  /** Our own error code. */
  error: ApiErrorCode | undefined;
  model: string | undefined;
  promptTokens: number | undefined;
  outputTokens: number | undefined;
  /** How what it generates has been served until now, asked when the line is written; absent where it generates nothing. */
  served: (() => Served) | undefined;
  /** What the key may still ask for, as the engine counted it. */
  allowance: Allowance | undefined;
}

export interface AppEnv {
  /** Absent parts: the app may run without a socket. */
  Bindings: Partial<HttpBindings>;
  Variables: {
    requestId: string;
    /** The name of the API key, or "anonymous". */
    owner: string;
    /** Whether the key is an operator's. */
    admin: boolean;
    scope: RequestScope;
    notes: RequestNotes;
    /** Writes the body of an answer once its head has gone out; unset for an answer that has its body. */
    writeBody: ((response: ServerResponse) => void) | undefined;
  };
}

export type AppContext = Context<AppEnv>;
