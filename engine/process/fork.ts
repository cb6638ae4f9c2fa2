/** An engine in a process of its own: what kills native code there leaves the sockets here alone. */
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { extname } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { killNow } from "../companions.ts";
import type { EngineCommand, EngineEvent, EngineExit, EnginePort } from "../protocol.ts";

export interface ForkOptions {
  /** Module that calls `serveEngine`. Default: the llama.cpp engine. */
  readonly entry?: URL;
  /** Receives each line the process writes to stdout or stderr, such as llama.cpp's log. */
  readonly onStderr?: (line: string) => void;
}

/** Longer lines are cut: native code can print a whole prompt in one. */
const MAX_LINE_CHARS = 4096;

/** After its exit a process's last events are still in the pipe; past this wait they are given up. */
const LAST_EVENTS_MS = 1000;

/** Environment variables that hold keys and tokens, or lead to the service manager; an engine needs none of them. */
const SECRETS: ReadonlySet<string> = new Set([
  "NOTIFY_SOCKET",
  "WEFT_ADMIN_KEYS",
  "WEFT_API_KEYS",
  "HF_TOKEN",
  "HUGGING_FACE_HUB_TOKEN",
]);

/** With more threads each decode call may run on another one, and llama.cpp's compute threads lose their cores. */
const THREADS = { UV_THREADPOOL_SIZE: "1" };

/**
 * For glibc, which else gives every thread an arena of its own, 64 MiB of addresses in which the free memory of one
 * is of no use to the others, and keeps up to 64 MiB that has been freed. Who sets them otherwise is obeyed.
 */
const MALLOC = { MALLOC_ARENA_MAX: "1", MALLOC_TRIM_THRESHOLD_: "131072" };

/** A process that hung up without ending is killed after this time. */
const HUNG_UP_MS = 2000;

/** Starts an engine process. The port is usable at once; commands wait in the pipe until the process reads. */
export function forkEngine(options: ForkOptions = {}): EnginePort {
  // The extension of this very file, so that sources run sources and the build runs the build.
  const entry = options.entry ?? new URL(`./main${extname(import.meta.url)}`, import.meta.url);
  const child = fork(entry, [], {
    serialization: "advanced",
    // Native output must not mix with what the server prints.
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    // A debugger port belongs to one process.
    execArgv: process.execArgv.filter((argument) => !argument.startsWith("--inspect")),
    env: { ...MALLOC, ...withoutSecrets(process.env), ...THREADS },
  });
  return new ForkedEngine(child, options.onStderr);
}

/** What native code does not know, no model file can make it tell. */
function withoutSecrets(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !SECRETS.has(name)));
}

class ForkedEngine implements EnginePort {
  readonly exited: Promise<EngineExit>;
  readonly #child: ChildProcess;
  #endRequested = false;
  /** Its own process, which may stand still when it dies and would never hear of it. */
  #companion: number | undefined;

  constructor(child: ChildProcess, onLine: ((line: string) => void) | undefined) {
    this.#child = child;
    readLines(child.stdout, onLine);
    readLines(child.stderr, onLine);
    child.once("exit", () => {
      if (this.#companion !== undefined) killNow(this.#companion);
    });
    this.exited = whenGone(child).then((detail) => ({ unexpected: !this.#endRequested, detail }));
  }

  send(command: EngineCommand): void {
    if (command.type === "stop") this.#endRequested = true;
    // With a callback a broken or closed channel is reported there instead of thrown; `exited` tells the rest.
    this.#child.send(command, () => undefined);
  }

  onEvent(receiver: (event: EngineEvent) => void): void {
    this.#child.removeAllListeners("message");
    this.#child.on("message", (message) => {
      const event = message as EngineEvent;
      if (event?.type === "companion") this.#companion = this.#childOfChild(event.pid);
      else receiver(event);
    });
  }

  kill(): void {
    this.#endRequested = true;
    // Before its engine, and not when that is gone: this process may not be there any more to hear of it.
    if (this.#companion !== undefined && parentOf(this.#companion) === this.#child.pid)
      killNow(this.#companion);
    this.#child.kill("SIGKILL");
  }

  /** Of an engine whose memory has gone wrong it may be any number; told by Linux alone. */
  #childOfChild(pid: unknown): number | undefined {
    if (typeof pid !== "number" || !Number.isSafeInteger(pid) || pid <= 1) return undefined;
    return parentOf(pid) === this.#child.pid ? pid : undefined;
  }
}

/** Undefined where nothing tells. */
function parentOf(pid: number): number | undefined {
  try {
    // Its name, in parentheses, may have some itself.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ");
    return Number(fields?.[1]);
  } catch {
    return undefined;
  }
}

/** How the process ended, in words, once it is gone and all it said has been received. */
function whenGone(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    const hungUp = new Promise<void>((settle) => child.once("disconnect", settle));
    let hungUpTimer: NodeJS.Timeout | undefined;
    child.once("disconnect", () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      hungUpTimer = setTimeout(() => child.kill("SIGKILL"), HUNG_UP_MS).unref();
    });
    // Emitted when the process could not be started, and when a signal could not be sent.
    child.on("error", (cause) => {
      if (child.pid === undefined) resolve(`could not start: ${cause.message}`);
    });
    child.once("exit", (code, signal) => {
      clearTimeout(hungUpTimer);
      const detail = signal === null ? `exit code ${code}` : `signal ${signal}`;
      setTimeout(() => resolve(detail), LAST_EVENTS_MS).unref();
      void hungUp.then(() => resolve(detail));
    });
  });
}

function readLines(stream: Readable | null, onLine: ((line: string) => void) | undefined): void {
  if (stream === null) return;
  stream.on("error", () => undefined);
  if (onLine === undefined) {
    // Unread output would fill the pipe and block the process.
    stream.resume();
    return;
  }
  createInterface({ input: stream }).on("line", (line) => onLine(line.slice(0, MAX_LINE_CHARS)));
}
