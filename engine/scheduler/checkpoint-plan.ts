/**
 * Where checkpoints are taken of prompts that are being computed, which of them go for new ones, and which a request goes
 * on from. For models that cannot take tokens back at any time: there a slot is cut at checkpoints alone.
 *
 * A prompt stops at its end, at a grid line shortly before it, at a few even distances, and where others are known to go
 * another way: its first tokens are those of a prompt that waits for it, or that was seen before. On the grid, since only
 * what was computed in whole cells is what a cold run computes. Of one step; a step without a request that waits or stands
 * at such a place makes no plan.
 */
import { MOST_CHECKPOINTS, checkpointBytes, heldBytes } from "./checkpoint-transitions.ts";
import { prefillTokensMs, spillBytes, transferMs } from "./cost-model.ts";
import { reusableOf } from "./prefix-reuse.ts";
import { reuseChance } from "./prefix-value.ts";
import { commonWithSlots } from "./slot-prefixes.ts";
import type { RequestId } from "../protocol.ts";
import type { Running } from "./admission.ts";
import type { KeepingTime } from "./keeping-time.ts";
import type {
  BoundaryOperation,
  Branch,
  Checkpoint,
  CheckpointId,
  CheckpointState,
  ScheduledRequest,
  SchedulerState,
  Slot,
  SlotId,
  SpillCost,
} from "./types.ts";

/** At even distances in one prompt; there may be a few more elsewhere. */
const MOST_EVEN_STOPS = 4;
/** What a template opens an answer with is not always what it shows of it in the next turn. */
const OPENING_TOKENS = 16;
/** Predictions of what will be wanted are rough: a checkpoint must promise this many times what it takes. */
const WORTH_TAKING = 2;
/** Bounds the work of one plan; most steps compute one prompt. */
const MOST_TAKEN_PER_STEP = 8;

/** A checkpoint and how much of it a request can use. */
export interface Comeback {
  readonly checkpoint: Checkpoint;
  readonly reuse: number;
  /** What coming back to it takes. */
  readonly ms: number;
}

/** What may go for others. */
interface Victim {
  readonly checkpoint: Checkpoint;
  readonly worthMs: number;
}

interface Parts {
  readonly checkpoints: CheckpointState;
  readonly cost: SpillCost;
  readonly time: KeepingTime;
}

type Prompted = Pick<ScheduledRequest, "prompt" | "branches">;

/** Whether a checkpoint is wanted of the request when its slot has so many tokens. */
export function isStop({ prompt, branches }: Prompted, position: number, grid: number): boolean {
  const end = prompt.length - 1;
  if (position === 0 || position > end) return false;
  if (position === end || branches.includes(position)) return true;
  if (position % grid !== 0) return false;
  let distance = grid;
  while (end > distance * MOST_EVEN_STOPS) distance *= 2;
  const last = end - OPENING_TOKENS;
  return position % distance === 0 || (position <= last && position + grid > last);
}

const nothing = (): undefined => undefined;

/** Whether a plan has the request stop there. */
export function isBranch(branches: readonly Branch[], id: RequestId, at: number): boolean {
  return branches.some(({ request, position }) => request === id && position === at);
}

export class CheckpointPlan {
  readonly #state: SchedulerState;
  readonly #checkpoints: CheckpointState;
  readonly #cost: SpillCost;
  readonly #time: KeepingTime;
  readonly #nowMs: number;
  readonly #branches: Branch[] = [];
  /** How much of each checkpoint those requests can use that were looked at. */
  readonly #reuse = new Map<RequestId, ReadonlyMap<Checkpoint, number>>();
  /** Come back to in this step. */
  readonly #used = new Set<CheckpointId>();
  /** Slots whose cells are copied in this step. */
  readonly #copied = new Set<SlotId>();

  /** Undefined where none are taken. */
  static of(state: SchedulerState, nowMs: number, time: KeepingTime): CheckpointPlan | undefined {
    const { checkpoints, cost } = state;
    if (checkpoints === undefined || cost.checkpoint === undefined) return undefined;
    return new CheckpointPlan(state, { checkpoints, cost: cost.checkpoint, time }, nowMs);
  }

  private constructor(state: SchedulerState, { checkpoints, cost, time }: Parts, nowMs: number) {
    this.#state = state;
    this.#checkpoints = checkpoints;
    this.#cost = cost;
    this.#time = time;
    this.#nowMs = nowMs;
  }

  get branches(): readonly Branch[] {
    return this.#branches;
  }

  /** Whether a slot can be copied and the copy be brought back to a checkpoint in one step. */
  get goesWithCopies(): boolean {
    return this.#checkpoints.needs !== "own-cells";
  }

  /** Whether the slot's checkpoints stay when it is given to somebody else. */
  get outlivesSlots(): boolean {
    return this.#checkpoints.needs === "none";
  }

  /** For each slot the checkpoint of which the request can use most in it. */
  bestFor(request: ScheduledRequest): (slot: Slot) => Comeback | undefined {
    const { needs } = this.#checkpoints;
    const reuseOf = this.#reuseOf(request);
    if (reuseOf.size === 0) return nothing;
    if (needs === "none") {
      const best = this.#best(reuseOf, reuseOf.keys());
      return () => best;
    }
    const inCopies = ({ id }: Slot): boolean => this.#state.inCopies.has(id) || this.#copied.has(id);
    return (slot) =>
      needs === "own-cells" && inCopies(slot) ? undefined : this.#best(reuseOf, slot.checkpoints);
  }

  #best(reuseOf: ReadonlyMap<Checkpoint, number>, checkpoints: Iterable<Checkpoint>): Comeback | undefined {
    let best: Comeback | undefined;
    for (const checkpoint of checkpoints) {
      const reuse = reuseOf.get(checkpoint) ?? 0;
      if (reuse <= (best?.reuse ?? 0)) continue;
      const ms = transferMs(this.#cost.restore, checkpoint.bytes);
      if (ms <= this.#time.leftMs) best = { checkpoint, reuse, ms };
    }
    return best;
  }

  #reuseOf(request: ScheduledRequest): ReadonlyMap<Checkpoint, number> {
    const known = this.#reuse.get(request.id);
    if (known !== undefined) return known;
    const reuseOf = new Map<Checkpoint, number>();
    const { id, prompt, cacheKey, reusePrefix } = request;
    if (reusePrefix)
      this.#checkpoints.order.eachCommon(cacheKey, prompt, prompt.length - 1, (checkpoint, common) => {
        const reuse = reusableOf(request, checkpoint, common, this.#state.config);
        if (reuse > 0) reuseOf.set(checkpoint, reuse);
      });
    this.#reuse.set(id, reuseOf);
    return reuseOf;
  }

  /** What is decided of a slot: it is given to the request, with a copy of another's cells, and brought back. */
  give(
    request: ScheduledRequest,
    {
      reuse,
      copyFrom,
      comeback,
    }: {
      readonly reuse: number;
      readonly copyFrom: SlotId | undefined;
      readonly comeback?: Comeback;
    },
  ): void {
    if (copyFrom !== undefined) this.#copied.add(copyFrom);
    if (comeback !== undefined) {
      this.#used.add(comeback.checkpoint.id);
      this.#time.spend(comeback.ms);
    }
    if (request.reusePrefix) this.stopAt(request, this.#branchOf(request, reuse));
  }

  /** The request is going to stop there, if it lies on the grid and before it ends. */
  stopAt({ id, prompt, branches }: ScheduledRequest, tokens: number): void {
    const { prefillChunk: grid } = this.#state.config;
    const position = Math.floor(tokens / grid) * grid;
    if (position === 0 || position >= prompt.length - 1 || branches.includes(position)) return;
    if (!isBranch(this.#branches, id, position)) this.#branches.push({ request: id, position });
  }

  /**
   * Takes a checkpoint of each slot that stands where one is wanted, if that is worth it, also what goes for it. Called
   * last: what somebody comes back to in this step does not go.
   */
  take(running: readonly Running[]): BoundaryOperation[] {
    const operations: BoundaryOperation[] = [];
    const victims = new Victims(() => this.#victims());
    let bytesLeft = this.#checkpoints.limitBytes - checkpointBytes(this.#checkpoints);
    let placesLeft = MOST_CHECKPOINTS - this.#checkpoints.kept.size;
    let nextId = this.#checkpoints.nextId;
    for (const standing of running) {
      const wanted = this.#wantedOf(standing);
      if (wanted === undefined) continue;
      const bytes = heldBytes({ bytes: wanted.bytes, length: wanted.slot.length });
      const going = victims.take(bytes - bytesLeft, 1 - placesLeft, wanted.worthMs);
      if (going === undefined) continue;
      for (const checkpoint of going) {
        operations.push({ type: "forget", checkpoint: checkpoint.id });
        bytesLeft += heldBytes(checkpoint);
        placesLeft += 1;
      }
      const checkpoint = this.#of(wanted.slot, nextId++, wanted.bytes);
      operations.push({ type: "checkpoint", slot: wanted.slot.id, checkpoint });
      bytesLeft -= bytes;
      placesLeft -= 1;
      this.#time.spend(wanted.saveMs);
      if (nextId - this.#checkpoints.nextId === MOST_TAKEN_PER_STEP) break;
    }
    return operations;
  }

  /** What is to be kept of a slot; undefined where nothing is, or it would not pay. */
  #wantedOf({
    request,
    slot: id,
    length,
  }: Running):
    | { readonly slot: Slot; readonly bytes: number; readonly saveMs: number; readonly worthMs: number }
    | undefined {
    const slot = this.#state.slots[id];
    if (slot?.owner !== request.id || this.#state.inCopies.has(id)) return undefined;
    const branched = request.branches.includes(length) || isBranch(this.#branches, request.id, length);
    if (!branched && !isStop(request, length, this.#state.config.prefillChunk)) return undefined;
    const last = slot.checkpoints.at(-1)?.length ?? 0;
    const bytes = spillBytes(this.#cost, this.#heldTokens(slot));
    const saveMs = transferMs(this.#cost.save, bytes);
    const { keepUntilMs } = slot;
    const chance = branched ? 1 : reuseChance({ lastUseMs: this.#nowMs, hits: 0, keepUntilMs }, this.#nowMs);
    const worthMs = chance * this.#computeMs(length - last, last);
    if (saveMs > this.#time.leftMs || worthMs < WORTH_TAKING * saveMs) return undefined;
    return this.#isKept(slot) ? undefined : { slot, bytes, saveMs, worthMs };
  }

  /** So many tokens of a prompt, behind so many others. */
  #computeMs(tokens: number, before: number): number {
    const { cost, config } = this.#state;
    return prefillTokensMs(cost, config.prefillChunk, tokens, before);
  }

  /** Whether this or another slot has taken the same. */
  #isKept(slot: Slot): boolean {
    const { length, tokens, cacheKey } = slot;
    if (slot.checkpoints.at(-1)?.length === length) return true;
    const { needs, order } = this.#checkpoints;
    if (needs !== "none") return false;
    let kept = false;
    order.eachCommon(cacheKey, tokens, length, (checkpoint, common) => {
      kept ||= common === length && checkpoint.length === length;
    });
    return kept;
  }

  #of(slot: Slot, id: CheckpointId, bytes: number): Checkpoint {
    const { length, firstCell, cacheKey, gridEnd, tailEnd, keepUntilMs } = slot;
    const tokens = slot.tokens.slice(0, length);
    const marks = { firstCell, cacheKey, gridEnd, tailEnd, keepUntilMs };
    return { id, tokens, length, ...marks, bytes, lastUseMs: this.#nowMs, hits: 0, slots: 0 };
  }

  /** Cells that are in a slot's checkpoint: a state is as large whatever it is of. */
  #heldTokens({ length }: Slot): number {
    const { windowTokens, batchTokens } = this.#state.config;
    return windowTokens === undefined ? length : Math.min(length, windowTokens + batchTokens);
  }

  /** How far the prompt is one that a slot or a checkpoint has, where not all of that can be reused. */
  #branchOf({ prompt, cacheKey }: ScheduledRequest, reuse: number): number {
    const end = prompt.length - 1;
    const commonOf = commonWithSlots(this.#state, { tokens: prompt, length: end, cacheKey });
    let most = reuse;
    for (const slot of this.#state.slots) {
      if (slot.cacheKey !== cacheKey || slot.length <= most) continue;
      most = Math.max(most, commonOf(slot));
    }
    this.#checkpoints.order.eachCommon(cacheKey, prompt, end, (_, common) => {
      most = Math.max(most, common);
    });
    return most > reuse ? most : 0;
  }

  /** A checkpoint is worth going on from it instead of from the one before it. */
  #victims(): Victim[] {
    const victims: Victim[] = [];
    for (const [checkpoint, before] of this.#checkpoints.order.nested()) {
      if (this.#used.has(checkpoint.id)) continue;
      const chance = reuseChance(checkpoint, this.#nowMs);
      victims.push({ checkpoint, worthMs: chance * this.#computeMs(checkpoint.length - before, before) });
    }
    return victims;
  }
}

/** Those that may go for others in one step, looked for when the first has to. */
class Victims {
  readonly #find: () => readonly Victim[];
  #byWorth: readonly Victim[] | undefined;
  #byDensity: readonly Victim[] | undefined;
  readonly #gone = new Set<Checkpoint>();

  constructor(find: () => readonly Victim[]) {
    this.#find = find;
  }

  /**
   * What goes so that there are so many bytes and places more: what is worth least, for its bytes where those are missing.
   * @returns Undefined where all that would be worth as much as what comes, which is `worthMs`.
   */
  take(bytes: number, places: number, worthMs: number): readonly Checkpoint[] | undefined {
    if (bytes <= 0 && places <= 0) return [];
    const going: Checkpoint[] = [];
    let freed = 0;
    let lostMs = 0;
    for (const victim of this.#inOrder(bytes > 0)) {
      if (this.#gone.has(victim.checkpoint) || lostMs + victim.worthMs >= worthMs) continue;
      going.push(victim.checkpoint);
      freed += heldBytes(victim.checkpoint);
      lostMs += victim.worthMs;
      if (freed < bytes || going.length < places) continue;
      for (const checkpoint of going) this.#gone.add(checkpoint);
      return going;
    }
    return undefined;
  }

  #inOrder(byDensity: boolean): readonly Victim[] {
    this.#byWorth ??= this.#find().toSorted((a, b) => a.worthMs - b.worthMs);
    if (!byDensity) return this.#byWorth;
    const density = ({ checkpoint, worthMs }: Victim): number => worthMs / heldBytes(checkpoint);
    return (this.#byDensity ??= this.#byWorth.toSorted((a, b) => density(a) - density(b)));
  }
}
