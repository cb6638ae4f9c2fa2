/** What the HTTP application needs from the process around it, so that a test can hand it anything. */
import type { Limits } from "./config/limits.ts";
import type { RequestDefaults } from "./config/request-defaults.ts";
import type { KeyPolicies } from "./config/key-policies.ts";
import type { DefaultAdapters } from "./default-adapters.ts";
import type { LiveRequests } from "./live-requests.ts";
import type { Metrics } from "./metrics/metrics.ts";
import type { Responses } from "./responses/responses.ts";
import type { ModelDirectory } from "./model-directory.ts";

export interface ApiKey {
  /** Label shown in logs and slot listings instead of the key. */
  readonly name: string;
  /** SHA-256 of the key, 64 hex digits. */
  readonly sha256: string;
}

export type ReasoningField = "reasoning_content" | "reasoning" | "both";

export interface AppConfig {
  readonly version: string;
  /** Empty lets everybody in. */
  readonly apiKeys: readonly ApiKey[];
  /** Open what the operator looks at, and nothing else; empty leaves that to the keys above. */
  readonly adminKeys: readonly ApiKey[];
  /** What the operator gives each key; absent: all the same. */
  readonly keyPolicies?: KeyPolicies;
  /** Whether a prompt's computed part is reused for its own key alone. */
  readonly isolateKeys: boolean;
  /** Longest wanted time to the first token, in ms; Infinity where there is none. */
  readonly ttftLimitMs: number;
  /** Refuses unknown request fields instead of reporting them in a header. */
  readonly strictParams: boolean;
  readonly limits: Limits;
  /** What requests ask for that say nothing of it; absent: what OpenAI and the model have by default. */
  readonly requestDefaults?: RequestDefaults;
  /** Any model name, or none, means the default model. */
  readonly anyModel: boolean;
  readonly reasoningField: ReasoningField;
  /** Silence before the first token after which a comment is sent, in seconds; 0 is never. */
  readonly sseKeepAliveSeconds: number;
  /** Browser origins let in beside this machine's own; `*` lets in all. */
  readonly corsOrigins: readonly string[];
  /** Host names accepted beside the loopback ones, without port. */
  readonly allowedHosts: readonly string[];
  /** Whether the server listens on loopback only, which makes other Host names suspicious (DNS rebinding). */
  readonly loopback: boolean;
}

/** The part of pino that is used. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface Clock {
  /** Monotonic, in ms. */
  nowMs(): number;
  /** Whole Unix seconds. */
  epochSeconds(): number;
}

export interface Ids {
  /** A new id that starts with `prefix` (such as `chatcmpl-`) and cannot be guessed. */
  next(prefix: string): string;
}

export interface Lifecycle {
  /** True once new requests should be sent elsewhere; they are taken until `draining`. */
  readonly leaving: boolean;
  /** True once the server takes no new work. */
  readonly draining: boolean;
}

export interface AppDeps {
  readonly models: ModelDirectory;
  readonly responses: Responses;
  readonly live: LiveRequests;
  readonly defaultAdapters: DefaultAdapters;
  readonly config: AppConfig;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly lifecycle: Lifecycle;
}
