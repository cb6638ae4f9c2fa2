/**
 * Slots that long prompts leave to short ones (`SchedulerConfig.reserve`): so many slots at a time have requests with a long
 * prompt at most, whichever slots these are. Who has a short one may have any.
 *
 * What is long is said of the whole prompt, computed or not. That never changes, so that a request is what it was when it
 * was told a time, also after it has been evicted or its engine has died; and the next turn of a long conversation, or
 * another choice for a long prompt, holds a slot and its cells as long as one that has to be computed.
 */
import { CLASSES } from "./types.ts";
import type { ScheduledRequest, SchedulerConfig, SchedulerState } from "./types.ts";

/** Whether a prompt of so many tokens has to leave some slots to others. */
export function isLong({ reserve }: SchedulerConfig, promptTokens: number): boolean {
  return reserve !== undefined && promptTokens >= reserve.promptTokens;
}

/** Most slots that requests with long prompts have at a time. */
export function longPlaces({ slots, reserve }: SchedulerConfig): number {
  return slots - (reserve?.slots ?? 0);
}

/** How many more of them may get a slot; below nothing never. */
export function longRoom({ config, slots }: SchedulerState): number {
  if (config.reserve === undefined) return config.slots;
  let room = longPlaces(config);
  for (const { holder } of slots) if (holder !== undefined && isLong(config, holder.prompt.length)) room -= 1;
  return room;
}

/** Lines of waiting requests: one for each class, and with a reserve behind these one for the long prompts of each. */
export function lineCount({ reserve }: SchedulerConfig): number {
  return reserve === undefined ? CLASSES : 2 * CLASSES;
}

export function lineOf(config: SchedulerConfig, { prompt, priority }: ScheduledRequest): number {
  return isLong(config, prompt.length) ? CLASSES + priority : priority;
}

/** The line for the long prompts of a class, if there is one. */
export function longLineOf(priority: number): number {
  return CLASSES + priority;
}

export function classOf(line: number): number {
  return line % CLASSES;
}

/** Free slots that one more request could have, or somebody who waits instead of it. */
export function slotsFor(state: SchedulerState, promptTokens: number): number {
  const { config, lines, slots } = state;
  let free = 0;
  for (const { owner } of slots) if (owner === undefined) free += 1;
  if (config.reserve === undefined) return free;
  let short = isLong(config, promptTokens) ? 0 : 1;
  for (let priority = 0; priority < CLASSES; priority++) short += lines[priority]?.waiting ?? 0;
  return Math.min(free, short + longRoom(state));
}
