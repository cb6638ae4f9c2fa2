/**
 * Processes of this one's own that must be gone when it is: also where it is killed by its own watch, whose thread reads
 * this memory, while its main thread is stuck.
 */

/** Shared with the thread that watches the parent: process numbers, or 0. */
export const companions = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

/** @param pid Undefined: it is gone. One at a time. */
export function noteCompanion(pid: number | undefined): void {
  Atomics.store(companions, 0, pid ?? 0);
}

/** Whether they stand still or not. */
export function killCompanions(): void {
  for (const pid of companions) if (pid > 0) killNow(pid);
}

/** Does nothing where there is no such process. */
export function killNow(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has gone before.
  }
}
