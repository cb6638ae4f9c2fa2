/** The field and header `priority`: names, and vLLM's numbers, of which a lower one goes first and 0 is usual. */
import { z } from "zod";
import { PriorityClass } from "../../engine/sharing.ts";

const EXPECTED = 'an integer, "high", "normal", "low" or "background"';
/** In the order of the classes. */
export const PRIORITY_NAMES = ["high", "normal", "low", "background"] as const;
export type PriorityName = (typeof PRIORITY_NAMES)[number];

export const priorityField = z.union([z.int(EXPECTED), z.enum(PRIORITY_NAMES)], EXPECTED);

export function readPriority(field: z.infer<typeof priorityField> | undefined): PriorityClass | undefined {
  if (field === undefined) return undefined;
  const number = typeof field === "number" ? PriorityClass.normal + field : PriorityClass[field];
  return classAt(number);
}

export function priorityName(priority: PriorityClass): PriorityName {
  return PRIORITY_NAMES[priority];
}

/** Numbers beyond the classes mean the first or the last of them. */
function classAt(number: number): PriorityClass {
  if (number <= PriorityClass.high) return PriorityClass.high;
  if (number >= PriorityClass.background) return PriorityClass.background;
  return number === PriorityClass.normal ? PriorityClass.normal : PriorityClass.low;
}
