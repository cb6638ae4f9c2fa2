/** What a device that several engines share does to times: an engine's own calls take as long as they do, and it waits for its turns. */
import type { SchedulerState } from "./types.ts";

/** Time over which what was worked and waited is remembered, in ms: what others ask changes within seconds. */
const REMEMBERED_MS = 3000;

/** Nobody else has used the device. */
export const UNSHARED: SchedulerState["deviceShare"] = { workedMs: 0, waitedMs: 0, notedMs: -Infinity };

/** The engine has worked for so long, and waited for so long for the turns that this took. */
export function noteDeviceShare(
  { deviceShare: share }: SchedulerState,
  { workedMs, waitedMs }: { readonly workedMs: number; readonly waitedMs: number },
  nowMs: number,
): void {
  const kept = Math.max(0, 1 - (nowMs - share.notedMs) / REMEMBERED_MS);
  // One long wait is no more of the last seconds than all of them.
  const counted = Math.min(1, REMEMBERED_MS / (workedMs + waitedMs));
  share.workedMs = share.workedMs * kept + workedMs * counted;
  share.waitedMs = share.waitedMs * kept + waitedMs * counted;
  share.notedMs = nowMs;
}

/** The state with what is still known of that: nothing where nothing has been noted for longer than it is remembered. */
export function withRecentShare(state: SchedulerState, nowMs: number): SchedulerState {
  const { waitedMs, notedMs } = state.deviceShare;
  const stale = waitedMs > 0 && nowMs - notedMs > REMEMBERED_MS;
  return stale ? { ...state, deviceShare: UNSHARED } : state;
}

/** How many times as long as its own work takes until that is done, with the turns of others; 1: there were none. */
export function deviceStretch({ deviceShare: { workedMs, waitedMs } }: SchedulerState): number {
  return workedMs > 0 ? 1 + waitedMs / workedMs : 1;
}
