/** How long calls take on a machine that was as fast, at each moment, as it was in a recording. */
import { STALLED } from "../../engine/simulate/fit-device.ts";
import type { SpeedSpan } from "../../engine/simulate/fit-device.ts";
import type { SimulationOptions } from "../../engine/simulate/simulator.ts";

/**
 * Work goes on at the speed of the moment: who computes while the machine is held up waits for the rest of that, and not
 * for as many times longer as somebody else did.
 * @param originMs Of the recording, where the simulated clock begins.
 */
export function asFastAs(speed: readonly SpeedSpan[], originMs: number): SimulationOptions["lasts"] {
  return (nowMs, ms) => {
    const startMs = nowMs + originMs;
    let atMs = startMs;
    let left = ms;
    for (let i = lastBegun(speed, startMs); ;) {
      const { ratio, untilMs } = phaseAt(speed, i, atMs);
      const done = (untilMs - atMs) / ratio;
      if (done >= left) return atMs + left * ratio - startMs;
      left -= done;
      atMs = untilMs;
      if ((speed[i + 1]?.fromMs ?? Infinity) <= atMs) i += 1;
    }
  };
}

/** The last span that has begun; -1 before the first. */
function lastBegun(speed: readonly SpeedSpan[], atMs: number): number {
  let [from, to] = [-1, speed.length];
  while (to - from > 1) {
    const middle = (from + to) >> 1;
    if ((speed[middle]?.fromMs ?? Infinity) <= atMs) from = middle;
    else to = middle;
  }
  return from;
}

/** The speed of a call until it ends, and behind it until the next one begins, but for what has held it up. */
function phaseAt(
  speed: readonly SpeedSpan[],
  index: number,
  atMs: number,
): { readonly ratio: number; readonly untilMs: number } {
  const { toMs = -Infinity, ratio = 1 } = speed[index] ?? {};
  const nextMs = speed[index + 1]?.fromMs ?? Infinity;
  if (atMs < toMs) return { ratio, untilMs: Math.min(toMs, nextMs) };
  return { ratio: ratio > STALLED ? 1 : ratio, untilMs: nextMs };
}
