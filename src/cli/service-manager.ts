/**
 * Tells systemd how the server is, where it asks to be told (`Type=notify`): ready, stopping, and alive for its watchdog.
 *
 * Its socket takes datagrams, which Node cannot send, so the program `systemd-notify` does. That one is a process of
 * its own, which the unit has to allow: `NotifyAccess=all`.
 */
import { execFile } from "node:child_process";
import type { Log } from "../deps.ts";

const PROGRAM = "systemd-notify";
/** It waits for an answer of systemd's, which comes at once or never. */
const RUN_TIMEOUT_MS = 10_000;
const MS_PER_US = 1e-3;

export interface ServiceManagerOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly pid: number;
  readonly log: Pick<Log, "warn">;
  /** Runs `systemd-notify` with these arguments; for tests. */
  readonly run?: (assignments: readonly string[]) => Promise<void>;
}

export class ServiceManager {
  readonly #asks: boolean;
  readonly #log: Pick<Log, "warn">;
  readonly #run: (assignments: readonly string[]) => Promise<void>;
  /** Time between two signs of life; undefined when nobody watches. */
  readonly #watchMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #warned = false;

  constructor({ env, pid, log, run = runProgram }: ServiceManagerOptions) {
    this.#asks = (env["NOTIFY_SOCKET"] ?? "") !== "";
    this.#log = log;
    this.#run = run;
    this.#watchMs = this.#asks ? watchIntervalMs(env, pid) : undefined;
  }

  /** The server answers requests from now on. */
  async ready(status: string): Promise<void> {
    if (this.#watchMs !== undefined) {
      // A loop that is stuck misses its turn, which is what the watchdog is for.
      this.#timer ??= setInterval(() => void this.#tell(["WATCHDOG=1"]), this.#watchMs).unref();
    }
    await this.#tell(["READY=1", `STATUS=${status}`]);
  }

  /** It takes no new ones; the signs of life go on, since a drain takes its time. */
  async stopping(): Promise<void> {
    await this.#tell(["STOPPING=1", "STATUS=Finishing the requests that run."]);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Never rejects: a server that cannot tell still serves. */
  async #tell(assignments: readonly string[]): Promise<void> {
    if (!this.#asks) return;
    try {
      await this.#run(assignments);
    } catch (err) {
      if (this.#warned) return;
      this.#warned = true;
      this.#log.warn({ err }, `systemd cannot be told how the server is; is ${PROGRAM} installed?`);
    }
  }
}

/** Half of what systemd allows, as its manual advises. */
function watchIntervalMs(env: ServiceManagerOptions["env"], pid: number): number | undefined {
  const limitUs = Number(env["WATCHDOG_USEC"] ?? "");
  const watched = env["WATCHDOG_PID"];
  if (!Number.isFinite(limitUs) || limitUs <= 0) return undefined;
  if (watched !== undefined && watched !== "" && Number(watched) !== pid) return undefined;
  return Math.max(1, Math.floor((limitUs * MS_PER_US) / 2));
}

function runProgram(assignments: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(PROGRAM, [...assignments], { timeout: RUN_TIMEOUT_MS }, (error) =>
      error === null ? resolve() : reject(error),
    );
  });
}
