/** What the scheduler is told: what was asked for, and what the loaded model and its device allow. */
import { shareOfFree } from "./free-memory.ts";
import type { Backend } from "./backend.ts";
import type { LoadOptions, ModelFacts } from "./protocol.ts";
import type { SchedulerConfig } from "./scheduler/types.ts";

/** A third of decode's time: a waiting prompt is slowed down fourfold at the worst, not stopped. */
const MIN_PREFILL_SHARE = 0.3;
/** Of the memory that is free once the model is loaded. */
const UNASKED_CHECKPOINTS = { share: 1 / 16, mostBytes: 4 * 1024 ** 3 };

/** What was found out while loading. */
interface Found {
  readonly backend: Backend;
  readonly facts: Omit<ModelFacts, "loadMs">;
  /** 0 where no prefixes are kept in files. */
  readonly spillBytes: number;
  readonly checkpoints: SchedulerConfig["checkpoints"] | undefined;
  readonly speculate: boolean;
}

export function schedulerConfig(
  options: LoadOptions,
  { backend, facts, spillBytes, checkpoints, speculate }: Found,
): SchedulerConfig {
  const { exactTogether, windowTokens } = backend;
  return {
    slots: facts.slots,
    contextTokens: facts.contextTokens,
    batchTokens: facts.batchTokens,
    prefillChunk: facts.prefillChunk,
    exactCells: exactTogether.cells,
    joinedCells: exactTogether.joinedCells,
    itlTargetMs: facts.itlTargetMs,
    minPrefillShare: options.minPrefillShare ?? MIN_PREFILL_SHARE,
    maxQueued: options.maxQueued,
    deterministic: options.deterministic,
    speculate,
    speculateAdapted: options.speculate ?? exactTogether.withAdapters,
    speculateAloneTokens: options.speculate === true ? Infinity : exactTogether.aloneTokens,
    canRewind: backend.canRewind,
    ...(windowTokens === undefined ? {} : { windowTokens }),
    plugGaps: options.plugGaps ?? true,
    prefixFirst: options.prefixFirst ?? true,
    keepSlots: options.keepSlots ?? true,
    prefixHolds: true,
    prefillOrder: options.prefillOrder ?? "shortest",
    ...(options.reserve === undefined ? {} : { reserve: options.reserve }),
    spillBytes,
    ...(checkpoints === undefined ? {} : { checkpoints }),
    ...(options.fairness === undefined ? {} : { fairness: options.fairness }),
  };
}

/** Undefined where none are needed, or none are to be taken. */
export function checkpointConfig(
  { checkpoints }: LoadOptions,
  { checkpointNeeds: needs }: Backend,
): SchedulerConfig["checkpoints"] {
  if (checkpoints === undefined || needs === undefined) return undefined;
  // What has been asked for may be more than there is, too.
  const asked =
    checkpoints.bytes === undefined ? UNASKED_CHECKPOINTS : { share: 0.9, mostBytes: checkpoints.bytes };
  return { needs, bytes: shareOfFree(asked) };
}
