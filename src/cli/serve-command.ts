/** `weft serve`: settles the options, finds the models, listens, loads, and serves until a signal. */
import { availableParallelism } from "node:os";
import { setTimeout as wait } from "node:timers/promises";
import { isatty } from "node:tty";
import { IdleGarbage } from "../../engine/idle-garbage.ts";
import { forkEngine } from "../../engine/process/fork.ts";
import type { ModelFacts } from "../../engine/protocol.ts";
import { DEFAULT_MODEL } from "../../models/catalogue.ts";
import { ChatTemplate } from "../../models/chat-template.ts";
import { TemplateRenderer } from "../../models/chat-template-renderer.ts";
import { ownCommand } from "../../models/command-line/own-command.ts";
import { threadsWarning } from "../../models/command-line/thread-count.ts";
import { packageVersion } from "../../models/package-root.ts";
import type { ResolvedModel } from "../../models/resolve.ts";
import type { TokenTable } from "../../models/text/token-table.ts";
import { createApp } from "../app.ts";
import { DefaultAdapters } from "../default-adapters.ts";
import { parseApiKeys } from "../config/api-keys.ts";
import { pickLimits } from "../config/limits.ts";
import { pinOptions } from "../config/pin-options.ts";
import { modelWeights, sharesDevice } from "../config/device-sharing.ts";
import { engineOptions } from "../config/engine-options.ts";
import { isLoopback, loadConfig } from "../config/load-config.ts";
import type { ConfigInputs, LoadedConfig } from "../config/load-config.ts";
import type { ServeValues } from "../config/options.ts";
import { warmUpCompiler } from "../constrain.ts";
import type { AppConfig } from "../deps.ts";
import { createLog } from "../log.ts";
import { LiveRequests } from "../live-requests.ts";
import { LoopWatch } from "../loop-watch.ts";
import { Metrics } from "../metrics/metrics.ts";
import { ModelHost } from "../model-host.ts";
import { pinPrompts } from "../pinned-prompts.ts";
import { HttpServer, ServerLifecycle } from "../server.ts";
import { SharedDevice } from "../shared-device.ts";
import { randomIds, systemClock } from "../system.ts";
import { banner } from "./banner.ts";
import { ExitCode, ListenError } from "./exit-codes.ts";
import { checkFiles, findDraftModels, findModels } from "./find-models.ts";
import { guardProcess } from "./process-guards.ts";
import { LoadingLines } from "./loading-lines.ts";
import { openResponses } from "./open-responses.ts";
import { ServiceManager } from "./service-manager.ts";
import { shutDown } from "./shutdown.ts";
import { Signals } from "./signals.ts";

const STDIN = 0;

/** A second signal ends the process with this code, since requests may have been cut. */
const HURRIED_EXIT: ExitCode = ExitCode.failed;

/**
 * Serves until SIGTERM or SIGINT and resolves with the exit code: 0 after a drain, 1 when a second signal cut it short,
 * 70 when an exception that nobody caught was the reason for it.
 * @throws {Error} Anything `describeFailure` knows, when it cannot start.
 */
export async function runServe(inputs: ConfigInputs): Promise<ExitCode> {
  const config = loadConfig(inputs);
  const { values } = config;
  const log = createLog({ level: values["log-level"], format: values["log-format"] });
  let signals: Signals | undefined;
  guardProcess(log, () => (signals === undefined ? process.exit(ExitCode.crashed) : signals.crash()));
  for (const [name, variable] of [
    ["api-key", "WEFT_API_KEYS"],
    ["admin-key", "WEFT_ADMIN_KEYS"],
  ] as const) {
    if (config.sources[name] !== "flag") continue;
    log.warn({}, `--${name} is visible to every user of this machine; prefer ${variable}`);
  }
  const cores = availableParallelism();
  const tooMany = threadsWarning(values.threads, cores);
  if (tooMany !== undefined) log.warn({ threads: values.threads, cores }, tooMany);
  const resolved = await findModels(values);
  const drafts = await findDraftModels(config, resolved);
  const pins = pinOptions(values["pin-prompt"], resolved);
  const weights = modelWeights(values["model-weight"], resolved);
  // Not before the models are there: until then a signal ends the process as usual.
  signals = new Signals(systemClock);

  const limits = pickLimits(values);
  const version = packageVersion();
  const metrics = new Metrics(version);
  const loadingLines = new LoadingLines();
  const renderer = new TemplateRenderer({ deadlineMs: limits["max-template-ms"] });
  const allowed = appConfig(config, version);
  const shares = sharesDevice(values, resolved.length, cores);
  const device = new SharedDevice({
    nowMs: () => systemClock.nowMs(),
    onWaited: (model, ms) => metrics.observeDeviceWait(model, ms),
    onHeld: (model, ms) => metrics.countDeviceTime(model, ms),
  });
  const models = new ModelHost(resolved, {
    startEngine: ({ id }) => {
      const port = forkEngine({ onStderr: (line) => log.debug({ model: id }, line) });
      return shares ? device.share(port, id, weights.get(id) ?? 1) : port;
    },
    loadOptions: (model) => engineOptions(model, config, drafts.get(model.id), shares),
    checkFiles: (model) => checkFiles(model, drafts.get(model.id)),
    createTemplate: (model, facts, tokens) => createTemplate(model, facts, tokens, renderer),
    pinnedPrompts: (model) => pinPrompts(model, pins, allowed),
    onLoading: (model, ratio) => loadingLines.progress(model, ratio),
    onStep: (model, report) => metrics.observeStep(model, report),
    onTrouble: (trouble) => metrics.countTrouble(trouble),
    stuckAfterMs: values["stuck-after"] * 1000,
    log,
    nowMs: () => systemClock.nowMs(),
    wait: (ms) => wait(ms),
  });
  // In a terminal it says that the terminal has gone, and ends the server.
  if (!isatty(STDIN)) process.on("SIGHUP", () => models.restart());
  const lifecycle = new ServerLifecycle();
  const opened = await openResponses(values["responses-store"], {
    log,
    epochSeconds: () => systemClock.epochSeconds(),
  });
  const app = createApp({
    models,
    responses: opened.responses,
    live: new LiveRequests(),
    defaultAdapters: new DefaultAdapters(),
    config: allowed,
    log,
    metrics,
    clock: systemClock,
    ids: randomIds,
    lifecycle,
  });
  const server = new HttpServer(app, lifecycle, {
    writeTimeoutMs: values["write-timeout"] * 1000,
    limits,
    onDrop: () => metrics.countDrop(),
  });
  new IdleGarbage(() => server.openResponses === 0).start();
  new LoopWatch({
    nowMs: () => systemClock.nowMs(),
    open: () => server.openRoutes(),
    log,
    onStall: () => metrics.countStall(),
  }).start();
  const service = new ServiceManager({ env: process.env, pid: process.pid, log });
  try {
    const url = urlOf(values.host, await listen(server, values));
    loadingLines.begin(version, url);
    const loading = models.start();
    // A signal while models load ends the wait for them; their failure then says nothing new.
    const started = await Promise.race([loading.then(() => "loaded" as const), signals.first]).finally(() =>
      loadingLines.end(),
    );
    if (started === "loaded") {
      // A thread that cannot be started is told to whom it concerns.
      await warmUpCompiler().catch(() => undefined);
      const loaded = models.served.map((model) => model.loaded).filter((model) => model !== undefined);
      process.stdout.write(
        banner({
          models: loaded,
          url,
          keys: values["api-key"].length,
          embeddedModel: DEFAULT_MODEL,
          realModel: ownCommand("serve --model smollm2"),
        }),
      );
      void service.ready(`Serving ${loaded.map(({ id }) => id).join(", ")} at ${url}.`);
      await signals.first;
    } else {
      loading.catch(() => undefined);
    }
    void service.stopping();
    const drainSettleMs = values["drain-settle"] * 1000;
    const drainTimeoutMs = values["drain-timeout"] * 1000;
    const background = opened.responses;
    await shutDown({ server, background, models, drainSettleMs, drainTimeoutMs, log }, signals.hurry);
    if (signals.crashed) return ExitCode.crashed;
    return signals.hurry.aborted ? HURRIED_EXIT : ExitCode.ok;
  } finally {
    service.close();
    models.kill();
    await opened.close();
    await server.close(0).catch(() => undefined);
    await renderer.close();
  }
}

function createTemplate(
  model: ResolvedModel,
  facts: ModelFacts,
  table: TokenTable,
  renderer: TemplateRenderer,
): ChatTemplate | undefined {
  const { bosToken, eosToken } = facts;
  const source = model.overrides?.chatTemplate ?? facts.chatTemplate;
  if (source === undefined) return undefined;
  const textOf = (token: number | undefined): string => (token === undefined ? "" : table.piece(token));
  return new ChatTemplate({ source, table, bosText: textOf(bosToken), eosText: textOf(eosToken), renderer });
}

function appConfig({ values }: LoadedConfig, version: string): AppConfig {
  const apiKeys = parseApiKeys(values["api-key"]);
  const isolation = values["isolate-keys"];
  return {
    version,
    apiKeys,
    adminKeys: parseApiKeys(values["admin-key"], "admin"),
    ...(values["key-policy"] === undefined ? {} : { keyPolicies: values["key-policy"] }),
    ttftLimitMs: values["ttft-limit"] ?? Infinity,
    isolateKeys:
      isolation === "auto" ? new Set(apiKeys.map(({ name }) => name)).size > 1 : isolation === "on",
    strictParams: values["strict-params"],
    limits: pickLimits(values),
    ...(values["request-default"] === undefined ? {} : { requestDefaults: values["request-default"] }),
    anyModel: values["any-model"],
    reasoningField: values["reasoning-field"],
    sseKeepAliveSeconds: values["keep-alive"],
    corsOrigins: values["cors-origins"],
    allowedHosts: values["allowed-hosts"],
    loopback: isLoopback(values.host),
  };
}

async function listen(server: HttpServer, { host, port }: ServeValues): Promise<number> {
  try {
    return await server.listen({ host, port });
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
    const advice: Readonly<Record<string, string>> = {
      EADDRINUSE: `Port ${port} is in use; stop the other server or choose another with --port.`,
      EACCES: `This user may not listen on port ${port}; choose one above 1023 with --port.`,
      EADDRNOTAVAIL: `${host} is not an address of this machine; check --host.`,
      ENOTFOUND: `The host name ${host} is not known; check --host.`,
    };
    throw new ListenError(code, advice[code] ?? `Cannot listen on ${host}:${port} (${code}).`);
  }
}

/** @param host May be an IPv6 address, with brackets or without. */
function urlOf(host: string, port: number): string {
  const written = host.includes(":") ? `[${host.replaceAll(/[[\]]/g, "")}]` : host;
  return `http://${written}:${port}`;
}
