/** How many compute threads there may be, and how many make sense on a machine, for every command that takes a number. */

/** ggml's own bound (`GGML_MAX_N_THREADS`). */
export const MOST_THREADS = 512;

/**
 * @param threads As given; undefined where the engine chooses.
 * @param cores That this process may use.
 * @returns What to warn of before anything is started; undefined where there is nothing.
 */
export function threadsWarning(threads: number | undefined, cores: number): string | undefined {
  if (threads === undefined || threads <= cores) return undefined;
  const machine = cores === 1 ? "the 1 core that there is" : `the ${cores} cores that there are`;
  return `--threads ${threads} is more than ${machine}: threads wait for each other busily, so each step on the CPU may take ten times as long; leave it out or take at most ${cores}`;
}
