/** The built server as a child process, as a user starts it, and the questions that tests ask it. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";

/** Far above what any start or end takes, so that it only ever tells that something hangs. */
const DEADLINE_MS = 60_000;
/** Each try waits for an answer of another process, so that this is seconds of real waiting. */
const MAX_TRIES = 2000;

/** The questions, for whoever knows the address. */
export interface ServerClient {
  /** Without a slash at the end. */
  readonly url: string;
  post(path: string, body: unknown, signal?: AbortSignal): Promise<Response>;
  /** `/slots` and `/metrics` together. */
  load(): Promise<ServerLoad>;
  /** Asks until the answer satisfies. */
  loadThat(label: string, satisfies: (load: ServerLoad) => boolean): Promise<ServerLoad>;
}

export interface RunningServer extends ServerClient {
  readonly pid: number;
  /** All that it has said on stderr, once it has ended. */
  readonly stderr: Promise<string>;
  /** Resolves with the exit code when it has ended by itself; null after a death by signal. */
  ended(): Promise<number | null>;
  /** Sends SIGTERM and resolves with the exit code; null after a death by signal. */
  stop(): Promise<number | null>;
  kill(): Promise<void>;
}

export interface ServerLoad {
  /** Slots that `/slots` calls busy. */
  readonly busySlots: number;
  readonly running: number;
  readonly waiting: number;
  /** `weft_requests_total` by endpoint and outcome, as in `chat/ok`. */
  readonly requests: Readonly<Record<string, number>>;
}

/** Servers that a failed test leaves behind end with the test process. */
const children = new Set<{ kill(signal: "SIGKILL"): boolean }>();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

function spawnServer(args: readonly string[], nodeArgs: readonly string[] = []) {
  const command = [...nodeArgs, "dist/src/main.js", "serve", "--log-level", "error", ...args];
  const child = spawn(process.execPath, command, { stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  const exited = once(child, "close").then(([code]) => {
    children.delete(child);
    return code as number | null;
  });
  return { child, exited, stderr: text(child.stderr) };
}

/** Resolves when the server has printed that it is ready. One compute thread: busy cores slow two down most. */
export async function startServer(...args: readonly string[]): Promise<RunningServer> {
  return await startNode([], ...args);
}

/**
 * A server that is made to do what none does by itself: `SIGUSR2` has it run this code, wherever its event loop is.
 * @param nodeArgs For node, before the program.
 */
export async function startSabotaged(
  code: string,
  nodeArgs: readonly string[],
  ...args: readonly string[]
): Promise<RunningServer & { readonly sabotage: () => void }> {
  // The engine process has the same arguments, and nobody sends it the signal.
  const module = `process.on("SIGUSR2", () => { ${code} })`;
  const server = await startNode([...nodeArgs, "--import", `data:text/javascript,${module}`], ...args);
  return { ...server, sabotage: () => void process.kill(server.pid, "SIGUSR2") };
}

async function startNode(nodeArgs: readonly string[], ...args: readonly string[]): Promise<RunningServer> {
  const { child, exited, stderr } = spawnServer(["--port", "0", "--threads", "1", ...args], nodeArgs);
  const { pid } = child;
  if (pid === undefined) throw new Error("The server could not be started.");
  const url = await within(
    "the server's ready line",
    new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout }).on("line", (line) => {
        const ready = /^ +ready +(http\S+)\/v1 /.exec(line)?.[1];
        if (ready !== undefined) resolve(ready);
      });
      void Promise.all([exited, stderr]).then(([code, said]) =>
        reject(new Error(`The server ended with ${code} before it was ready: ${said}`)),
      );
    }),
  );
  return {
    ...serverAt(url),
    pid,
    stderr,
    ended: () => within("its own end", exited),
    stop: () => {
      child.kill("SIGTERM");
      return within("the end after SIGTERM", exited);
    },
    kill: async () => {
      child.kill("SIGKILL");
      await within("the end after SIGKILL", exited);
    },
  };
}

/** @param url Of a running server, without a slash at the end. */
export function serverAt(url: string): ServerClient {
  const load = async (): Promise<ServerLoad> => {
    // Whoever counts the server's sockets means those of its clients.
    const ask = (path: string): Promise<Response> =>
      fetch(`${url}${path}`, { headers: { connection: "close" } });
    const [slots, metrics] = await Promise.all([ask("/slots"), ask("/metrics")]);
    return readLoad((await slots.json()) as SlotJson[], await metrics.text());
  };
  return {
    url,
    load,
    post: (path, body, signal) =>
      fetch(`${url}${path}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
        ...(signal === undefined ? {} : { signal }),
      }),
    loadThat: (label, satisfies) => retry(label, load, satisfies),
  };
}

/** For a server that is to end by itself. */
export async function runServer(
  ...args: readonly string[]
): Promise<{ readonly code: number | null; readonly stderr: string }> {
  const { child, exited, stderr } = spawnServer(args);
  child.stdout.resume();
  const [code, said] = await within("the server's own end", Promise.all([exited, stderr]));
  return { code, stderr: said };
}

/** A port that nobody listens on at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** The processes whose parent is `pid`. */
export async function childrenOf(pid: number): Promise<number[]> {
  const rows = (await processes()).filter(({ parent }) => parent === pid);
  return rows.map((row) => row.pid);
}

/** Resolves when none of the processes runs; one that nobody has reaped does not run. */
export async function processesGone(pids: readonly number[]): Promise<void> {
  await retry("the end of the processes", processes, (rows) =>
    rows.every(({ pid, state }) => !pids.includes(pid) || state.startsWith("Z")),
  );
}

/** Rejects with the label when the promise takes too long. */
async function within<T>(label: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`Waited too long for ${label}.`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Asks again and again until the answer satisfies. */
export async function retry<T>(
  label: string,
  ask: () => Promise<T>,
  satisfies: (answer: T) => boolean,
): Promise<T> {
  let answer = await ask();
  for (let tries = 1; !satisfies(answer); tries++) {
    if (tries === MAX_TRIES) throw new Error(`Never saw ${label}; last: ${JSON.stringify(answer)}`);
    answer = await ask();
  }
  return answer;
}

interface SlotJson {
  readonly is_processing: boolean;
}

function readLoad(slots: readonly SlotJson[], metrics: string): ServerLoad {
  const gauge = (name: string): number =>
    Number(new RegExp(`^${name}\\{model="[^"]+"\\} (\\d+)$`, "m").exec(metrics)?.[1]);
  const totals = metrics.matchAll(/^weft_requests_total\{endpoint="(\w+)",outcome="(\w+)"\} (\d+)$/gm);
  return {
    busySlots: slots.filter((slot) => slot.is_processing).length,
    running: gauge("weft_requests_running"),
    waiting: gauge("weft_requests_waiting"),
    requests: Object.fromEntries(
      Array.from(totals, ([, endpoint, outcome, total]) => [`${endpoint}/${outcome}`, Number(total)]),
    ),
  };
}

async function processes(): Promise<{ pid: number; parent: number; state: string }[]> {
  const { stdout } = await promisify(execFile)("ps", ["-A", "-o", "pid=,ppid=,stat="]);
  return stdout
    .trim()
    .split("\n")
    .map((line) => {
      const [pid, parent, state = ""] = line.trim().split(/\s+/);
      return { pid: Number(pid), parent: Number(parent), state };
    });
}
