/** Starts this very program as a server with given options, and ends it. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export interface ServerProcess {
  /** Base of all URLs, without a slash at the end. */
  readonly url: string;
  /** Ends it and waits until it has. */
  stop(): Promise<void>;
}

/** The server ended before it was ready, with what it said. */
export class ServerEnded extends Error {
  override readonly name = "ServerEnded";
  /** As of `weft serve`; null where a signal ended it. */
  readonly exitCode: number | null;

  constructor(exitCode: number | null, said: string) {
    // It is this program that says it now, in its own name.
    super(said.trim().replaceAll(/^weft: /gm, "") || "The server ended before it was ready.");
    this.exitCode = exitCode;
  }
}

/** A server without requests is gone sooner. */
const STOP_MS = 5000;
/** Of what a failing server says, the last lines. */
const MOST_SAID_CHARS = 2000;

/** Settings of the user's own server would change what is measured, or ask for a key. */
function withoutSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = ["WEFT_CACHE", "WEFT_RUNTIME_LOG"];
  return Object.fromEntries(
    Object.entries(env).filter(([name]) => !name.startsWith("WEFT_") || kept.includes(name)),
  );
}

/**
 * Resolves when the server is ready.
 * @param flags Of `weft serve`.
 * @param timeoutMs Until it is given up.
 * @throws {ServerEnded | Error} When it ends, or takes too long.
 */
export async function startServerProcess(
  flags: readonly string[],
  timeoutMs: number,
): Promise<ServerProcess> {
  const argv = ["serve", "--host", "127.0.0.1", "--port", "0", "--log-level", "error", ...flags];
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1] ?? "", ...argv], {
    stdio: ["ignore", "pipe", "pipe"],
    env: withoutSettings(process.env),
  });
  const end = (): void => void child.kill("SIGKILL");
  // A tuner that is interrupted must not leave a server behind.
  process.once("exit", end);
  const exited = new Promise<void>((resolve) => child.once("close", () => resolve()));
  void exited.then(() => process.off("exit", end));
  let said = "";
  child.stderr.on(
    "data",
    (chunk: Buffer) => (said = (said + chunk.toString("utf8")).slice(-MOST_SAID_CHARS)),
  );
  const stop = async (): Promise<void> => {
    // Orderly first, so that its engine is gone as well when the next one begins.
    child.kill("SIGTERM");
    const late = setTimeout(end, STOP_MS);
    await exited;
    clearTimeout(late);
  };
  let timer: NodeJS.Timeout | undefined;
  try {
    const url = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout }).on("line", (line) => {
        const ready = /^ +ready +(http\S+)\/v1 /.exec(line)?.[1];
        if (ready !== undefined) resolve(ready);
      });
      child.once("error", reject);
      void exited.then(() => reject(new ServerEnded(child.exitCode, said)));
      timer = setTimeout(() => reject(new Error("The server was not ready in time.")), timeoutMs);
    });
    return { url, stop };
  } catch (error) {
    await stop();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
