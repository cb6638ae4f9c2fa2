/** How much of the memory that is free something may take that nobody has given a size. */
import { freemem } from "node:os";

/** @returns Bytes; the limit of a container counts, where the runtime knows of it. */
export function shareOfFree({ share, mostBytes }: { share: number; mostBytes: number }): number {
  const freeBytes = process.availableMemory?.() ?? freemem();
  return Math.min(mostBytes, Math.floor(freeBytes * share));
}
