/** The whole HTTP application on a scripted engine, with a clock and ids that a test can write down. */
import { EngineClient } from "../../engine/client.ts";
import type { EnginePort, ModelFacts } from "../../engine/protocol.ts";
import { ChatTemplate, TemplateError, TemplateRenderer } from "../../models/chat-template.ts";
import type { RenderedPrompt, RenderRequest, TemplateErrorCode } from "../../models/chat-template.ts";
import { DEFAULT_SAMPLING } from "../../models/catalogue.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { TokenTable } from "../../models/text/token-table.ts";
import { createApp } from "../../src/app.ts";
import { DEFAULT_LIMITS } from "../../src/config/limits.ts";
import type { AppConfig, AppDeps } from "../../src/deps.ts";
import { DefaultAdapters } from "../../src/default-adapters.ts";
import { LiveRequests } from "../../src/live-requests.ts";
import { Metrics } from "../../src/metrics/metrics.ts";
import type { ModelDirectory, ServedModel } from "../../src/model-directory.ts";
import { DEFAULT_STORE_LIMITS, ResponseStore } from "../../src/responses/response-store.ts";
import { Responses } from "../../src/responses/responses.ts";
import { ScriptedEngine } from "./scripted-engine.ts";
import { tinyFacts } from "./tiny-vocabulary.ts";

export interface LogLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

/** Joins the contents instead of running Jinja, and remembers what it was given. */
class JoiningTemplate extends ChatTemplate {
  readonly requests: RenderRequest[] = [];
  failure: TemplateErrorCode | undefined;

  constructor(table: TokenTable) {
    super({ source: "<think></think>", table, bosText: "", eosText: "", renderer: new TemplateRenderer() });
  }

  /** Shows calls as this one does. By default nothing of them, so that they have the generic syntax, and no thread is started. */
  callsOf: ChatTemplate | undefined;

  override probe(...given: Parameters<ChatTemplate["probe"]>): Promise<string | undefined> {
    return this.callsOf?.probe(...given) ?? Promise.resolve(undefined);
  }

  override render(request: RenderRequest): Promise<RenderedPrompt> {
    this.requests.push(request);
    if (this.failure !== undefined) {
      return Promise.reject(new TemplateError(this.failure, "words of the template"));
    }
    const text = request.messages.map(({ content }) => String(content)).join("");
    return Promise.resolve({ parts: [{ text, special: false }], text, reasoningOpened: false });
  }
}

export interface TestAppOptions {
  /** An engine other than the scripted one. */
  readonly port?: EnginePort;
  readonly config?: Partial<AppConfig>;
  readonly facts?: Partial<ModelFacts>;
  readonly loaded?: Partial<LoadedModel>;
  /** Changes to the one model, or other models beside it. */
  readonly model?: Partial<ServedModel>;
  readonly models?: ModelDirectory;
  readonly withoutTemplate?: boolean;
  readonly responses?: Responses;
}

interface TestRequestInit {
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export const MODEL_ID = "org/tiny";

export function createTestApp(options: TestAppOptions = {}) {
  const engine = new ScriptedEngine();
  const facts = tinyFacts(options.facts);
  const tokens = new TokenTable(facts);
  const template = new JoiningTemplate(tokens);
  const loaded: LoadedModel = {
    id: MODEL_ID,
    fileName: "tiny.gguf",
    facts,
    engine: new EngineClient(options.port ?? engine),
    tokens,
    template: options.withoutTemplate === true ? undefined : template,
    sampling: DEFAULT_SAMPLING,
    adapters: [],
    applied: [],
    ...options.loaded,
  };
  const served: ServedModel = {
    id: MODEL_ID,
    aliases: ["tiny"],
    createdSeconds: 1_700_000_000,
    state: "ready",
    loaded,
    detail: undefined,
    parent: undefined,
    adapted: [],
    ...options.model,
  };
  const models: ModelDirectory = options.models ?? {
    served: [served],
    find: (name) => [served].find(({ id, aliases }) => id === name || aliases.includes(name)),
  };
  const log: LogLine[] = [];
  const awaited = new Map<string, () => void>();
  const line =
    (level: LogLine["level"]) =>
    (fields: object, message: string): void => {
      log.push({ level, fields: { ...fields }, message });
      awaited.get(message)?.();
    };
  /** Resolves when the message is logged, for what is logged when the answer is already there. */
  const logged = async (message: string): Promise<void> => {
    if (log.some((entry) => entry.message === message)) return;
    await new Promise<void>((resolve) => awaited.set(message, resolve));
  };
  const lifecycle = { leaving: false, draining: false };
  let serial = 0;
  const deps: AppDeps = {
    models,
    live: new LiveRequests(),
    defaultAdapters: new DefaultAdapters(),
    responses:
      options.responses ?? new Responses(new ResponseStore(DEFAULT_STORE_LIMITS, () => 1_730_000_000)),
    config: {
      version: "0.0.0-test",
      apiKeys: [],
      adminKeys: [],
      isolateKeys: false,
      ttftLimitMs: Infinity,
      strictParams: false,
      limits: DEFAULT_LIMITS,
      anyModel: false,
      reasoningField: "reasoning_content",
      sseKeepAliveSeconds: 0,
      corsOrigins: [],
      allowedHosts: [],
      loopback: true,
      ...options.config,
    },
    log: { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") },
    metrics: new Metrics("0.0.0-test"),
    clock: { nowMs: () => 1000, epochSeconds: () => 1_730_000_000 },
    ids: { next: (prefix) => `${prefix}${++serial}` },
    lifecycle,
  };
  const app = createApp(deps);
  const post = async (path: string, body: unknown, init: TestRequestInit = {}): Promise<Response> => {
    const headers = { "content-type": "application/json", host: "localhost", ...init.headers };
    const raw = typeof body === "string" || body instanceof Uint8Array;
    return app.request(path, { ...init, method: "POST", body: raw ? body : JSON.stringify(body), headers });
  };
  const chat = (fields: object = {}, init: TestRequestInit = {}): Promise<Response> =>
    post(
      "/v1/chat/completions",
      { model: MODEL_ID, messages: [{ role: "user", content: "hi" }], ...fields },
      init,
    );
  return { app, engine, deps, log, logged, lifecycle, template, loaded, post, chat };
}
