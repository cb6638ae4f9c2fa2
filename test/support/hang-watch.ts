/** Tells a process that hangs from one that a busy machine gives no time: by what it has computed, not by the clock. */
import { readFileSync, readdirSync } from "node:fs";

/** Far above what loading a test's model takes. */
const MOST_CPU_SECONDS = 60;
/** Looks in a row at a process that sleeps and has computed nothing in between, one a second. */
const MOST_IDLE_LOOKS = 60;
const LOOK_MS = 1000;
/** Of `/proc/PID/stat`, in seconds (sysconf `_SC_CLK_TCK`). */
const TICK_SECONDS = 1 / 100;

interface Look {
  /** R runs or wants to, S sleeps, D waits for a disk. */
  readonly state: string;
  readonly parent: number;
  readonly cpuSeconds: number;
}

/** Children of this process, without those of its children. */
export function ownChildren(): number[] {
  const pids = readdirSync("/proc").map(Number).filter(Number.isInteger);
  return pids.filter((pid) => lookAt(pid)?.parent === process.pid);
}

/** Undefined for a process that has gone. */
function lookAt(pid: number): Look | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name before it may hold anything.
    const [state = "", ...numbers] = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const [parent = 0, , , , , , , , , , user = 0, system = 0] = numbers.map(Number);
    return { state, parent, cpuSeconds: (user + system) * TICK_SECONDS };
  } catch {
    return undefined;
  }
}

/** Resolves when the process hangs, in a loop or asleep; never where it does not. */
export function hangs(pid: number): { readonly seen: Promise<void>; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  const seen = new Promise<void>((resolve) => {
    let idleLooks = 0;
    let before = 0;
    timer = setInterval(() => {
      const look = lookAt(pid);
      if (look === undefined) return;
      const idle = look.state === "S" && look.cpuSeconds === before;
      idleLooks = idle ? idleLooks + 1 : 0;
      before = look.cpuSeconds;
      if (look.cpuSeconds > MOST_CPU_SECONDS || idleLooks > MOST_IDLE_LOOKS) resolve();
    }, LOOK_MS);
  });
  return { seen, stop: () => clearInterval(timer) };
}
