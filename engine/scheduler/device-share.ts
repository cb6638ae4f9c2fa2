/** What a device that several engines share does to times: an engine's own calls take as long as they do, and it waits for its turns. */
import type { SchedulerState } from "./types.ts";

/** Time of own work over which what was waited is remembered, in ms: what others ask changes within seconds. */
const REMEMBERED_MS = 3000;

/** Nobody else has used the device. */
export const UNSHARED: SchedulerState["deviceShare"] = { workedMs: 0, waitedMs: 0 };

/** The engine has worked for so long, and waited for so long for the turns that this took. */
export function noteDeviceShare(
  { deviceShare: share }: SchedulerState,
  workedMs: number,
  waitedMs: number,
): void {
  const kept = Math.max(0, 1 - workedMs / REMEMBERED_MS);
  share.workedMs = share.workedMs * kept + workedMs;
  share.waitedMs = share.waitedMs * kept + waitedMs;
}

/** How many times as long as its own work takes until that is done, with the turns of others; 1: there were none. */
export function deviceStretch({ deviceShare: { workedMs, waitedMs } }: SchedulerState): number {
  return workedMs > 0 ? 1 + waitedMs / workedMs : 1;
}
