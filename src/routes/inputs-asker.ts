/** Who asks for vectors or scores, and how soon they are wanted: as for answers that are generated. */
import type { PriorityClass } from "../../engine/sharing.ts";
import type { AppDeps } from "../deps.ts";
import type { InputsAsker } from "../embed.ts";
import { classOf, readScheduling, vainPriority } from "../scheduling.ts";
import type { AppContext } from "./env.ts";

/**
 * @param field What the body asks for.
 * @throws {ApiError} 400 that names a header.
 */
export function readAsker(
  c: AppContext,
  deps: AppDeps,
  field: PriorityClass | undefined,
): InputsAsker & { readonly vain: readonly string[] } {
  const scheduling = readScheduling(c, deps);
  const { firstTokenByMs = Infinity, endByMs = Infinity } = scheduling;
  // Nothing comes before all of it.
  const byMs = Math.min(firstTokenByMs, endByMs);
  return {
    owner: c.get("owner"),
    priority: classOf(scheduling, field),
    withinMs: byMs === Infinity ? undefined : byMs - deps.clock.nowMs(),
    signal: c.get("scope").signal,
    vain: vainPriority(scheduling, field),
  };
}
