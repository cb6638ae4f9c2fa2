/**
 * Which prefixes are written to files when their slot is needed, which of those files go for them, and which come back:
 * each where it is predicted to be clearly cheaper than computing the prefix again.
 *
 * Of one step; the state knows of a file only when it has been written. What takes longer than the inter-token target is
 * not done beside decoding slots, since a file cannot be written or read in pieces, but for one: a prompt that begins with
 * all of a pinned prefix gets it in any case.
 */
import { prefillTokensMs, spillBytes, transferMs } from "./cost-model.ts";
import { returnChance } from "./lost-prefixes.ts";
import { pinKey, pinKeyOf } from "./pins.ts";
import { commonPrefixLength, mayCutTo, reusableOf } from "./prefix-reuse.ts";
import { reuseChance } from "./prefix-value.ts";
import type { Used } from "./prefix-value.ts";
import { commonWithSlots } from "./slot-prefixes.ts";
import type { Comeback } from "./checkpoint-plan.ts";
import type { KeepingTime } from "./keeping-time.ts";
import { MOST_PREFIXES } from "./types.ts";
import type {
  BoundaryOperation,
  ScheduledRequest,
  SchedulerState,
  Slot,
  SlotId,
  SpillCost,
  SpillId,
  SpillState,
  SpilledPrefix,
} from "./types.ts";

/** Predictions of what will be wanted are rough: saving must promise this many times what it takes. */
const WORTH_SAVING = 2;

/** A prefix in a file and how much of it a request can use. */
export interface Restorable {
  readonly prefix: SpilledPrefix;
  readonly reuse: number;
  /** What reading the file takes. */
  readonly ms: number;
}

interface Parts {
  readonly spill: SpillState;
  readonly cost: SpillCost;
  readonly time: KeepingTime;
}

/** With what a slot is given away. */
interface Given {
  readonly reuse: number;
  readonly copyFrom: SlotId | undefined;
  readonly restore?: Restorable;
  readonly comeback?: Comeback;
}

export class SpillPlan {
  readonly #state: SchedulerState;
  readonly #spill: SpillState;
  readonly #cost: SpillCost;
  readonly #nowMs: number;
  readonly #time: KeepingTime;
  /** That what a slot loses is asked for again, where nobody has come back to it. */
  readonly #unusedChance: number;
  readonly #saves: SpilledSlot[] = [];
  readonly #restores: RestoredSlot[] = [];
  /** Files that go: to make room, and because their slot has all of them. */
  readonly #dropped = new Set<SpillId>();
  readonly #moved = new Set<SpillId>();
  /** Slots that lose what they hold, and slots whose cells are copied, which happens after files are read. */
  readonly #given = new Set<SlotId>();
  readonly #copied = new Set<SlotId>();

  /** Undefined where nothing is kept in files. */
  static of(state: SchedulerState, nowMs: number, time: KeepingTime): SpillPlan | undefined {
    const { spill, cost } = state;
    if (spill === undefined || cost.spill === undefined) return undefined;
    return new SpillPlan(state, { spill, cost: cost.spill, time }, nowMs);
  }

  private constructor(state: SchedulerState, { spill, cost, time }: Parts, nowMs: number) {
    this.#state = state;
    this.#spill = spill;
    this.#cost = cost;
    this.#time = time;
    this.#unusedChance = returnChance(spill.lost);
    this.#nowMs = nowMs;
  }

  /** In the order in which they have to be carried out, before all others. */
  get operations(): BoundaryOperation[] {
    const drop = (spill: SpillId): BoundaryOperation => ({ type: "drop", spill });
    return [
      ...Array.from(this.#dropped, drop),
      ...this.#saves,
      ...this.#restores,
      ...Array.from(this.#moved, drop),
    ];
  }

  /** The prefix of which the request can use most, pinned ones included. */
  bestFor(request: ScheduledRequest): Restorable | undefined {
    const { prompt, cacheKey, adapters, reusePrefix } = request;
    if (!reusePrefix) return undefined;
    const commonOf = new Map<SpilledPrefix, number>();
    const note = (prefix: SpilledPrefix, common: number): void => void commonOf.set(prefix, common);
    this.#spill.order.eachCommon(cacheKey, prompt, prompt.length - 1, note);
    this.#spill.pinOrder.eachCommon(pinKey(adapters), prompt, prompt.length - 1, note);
    if (commonOf.size === 0) return undefined;
    let best: Restorable | undefined;
    for (const prefix of this.#readable()) {
      const common = commonOf.get(prefix);
      if (common === undefined) continue;
      const isOwed = common === prefix.length && this.#spill.pins.has(prefix.id);
      const ms = transferMs(this.#cost.restore, prefix.bytes);
      if (ms > this.#time.leftMs && !isOwed) continue;
      const reuse = reusableOf(request, prefix, common, this.#state.config);
      if (reuse > (best?.reuse ?? 0) || (reuse > 0 && reuse === best?.reuse && ms < best.ms))
        best = { prefix, reuse, ms };
    }
    return best;
  }

  /** So many tokens the request finds computed whatever that costs: of a pinned prefix that its prompt has all of. */
  owedTo(request: ScheduledRequest): number {
    const { prompt, adapters, reusePrefix } = request;
    let owed = 0;
    if (!reusePrefix || this.#spill.pins.size === 0) return owed;
    this.#spill.pinOrder.eachCommon(pinKey(adapters), prompt, prompt.length - 1, (prefix, common) => {
      if (common < prefix.length) return;
      owed = Math.max(owed, reusableOf(request, prefix, common, this.#state.config));
    });
    return owed;
  }

  /** Whether a file's cells may be read into the slot. */
  mayRestoreInto(slot: SlotId): boolean {
    return !this.#state.inCopies.has(slot) && !this.#copied.has(slot);
  }

  /** What it costs to lose a slot's cells, where they could be saved and read again; Infinity where not. */
  savedLossMs(slot: Slot, keep: number, chance: number): number {
    if (!this.#maySave(slot, keep)) return Infinity;
    const bytes = spillBytes(this.#cost, slot.length);
    return transferMs(this.#cost.save, bytes) + chance * transferMs(this.#cost.restore, bytes);
  }

  /**
   * A slot is given away: what is read into it from a file, and what it has held until now and is worth a file.
   * @param certain Whether what it has held will be wanted again for certain.
   * @returns What is saved.
   */
  give(slot: Slot, given: Given, certain: boolean): SpilledPrefix | undefined {
    const { reuse, copyFrom, restore, comeback } = given;
    this.#given.add(slot.id);
    if (copyFrom !== undefined) this.#copied.add(copyFrom);
    // Before room is made, for which it must not go.
    if (restore !== undefined) this.#restore(slot.id, restore);
    const own = comeback === undefined || slot.checkpoints.includes(comeback.checkpoint);
    return this.#save(slot, own && copyFrom === undefined && restore === undefined ? reuse : 0, certain);
  }

  #save(slot: Slot, keep: number, certain: boolean): SpilledPrefix | undefined {
    if (!this.#maySave(slot, keep)) return undefined;
    const lost = slot.length - Math.max(keep, this.#tokensElsewhere(slot));
    if (lost < this.#state.config.prefillChunk) return undefined;
    const bytes = spillBytes(this.#cost, slot.length);
    // Who came for what is elsewhere, too, has not come for the rest.
    const hits = 2 * lost < slot.length ? 0 : slot.hits;
    const chance = certain
      ? 1
      : this.#chanceOf({ lastUseMs: slot.lastUseMs, hits, keepUntilMs: slot.keepUntilMs });
    const worthMs =
      chance * (this.#computeMs(lost, slot.length - lost) - transferMs(this.#cost.restore, bytes));
    if (worthMs < WORTH_SAVING * transferMs(this.#cost.save, bytes)) return undefined;
    const superseded = this.#mayGo().filter((prefix) => this.#isWithin(prefix, slot));
    if (!this.#makeRoom(superseded, bytes, worthMs)) return undefined;
    const { length, cacheKey, gridEnd, tailEnd, lastUseMs } = slot;
    // What a client wants kept is in this file now.
    const keepUntilMs = Math.max(slot.keepUntilMs, ...superseded.map((prefix) => prefix.keepUntilMs ?? 0));
    const tokens = slot.tokens.slice(0, length);
    const id = this.#spill.nextId + this.#saves.length;
    const firstCell = this.#firstSaved(slot);
    const used = { lastUseMs, hits: slot.hits, keepUntilMs };
    const marks = { firstCell, cacheKey, gridEnd, tailEnd, bytes, ...used };
    const prefix = { id, tokens, length, ...marks };
    this.#saves.push({ type: "save", slot: slot.id, prefix });
    this.#time.spend(transferMs(this.#cost.save, bytes));
    return prefix;
  }

  /** So many tokens of a prompt, behind so many others. */
  #computeMs(tokens: number, before: number): number {
    const { cost, config } = this.#state;
    return prefillTokensMs(cost, config.prefillChunk, tokens, before);
  }

  /** A file of which the slot then has all, or all but what nobody would save, is not kept. */
  #restore(slot: SlotId, { prefix, reuse, ms }: Restorable): void {
    this.#restores.push({ type: "restore", slot, prefix });
    this.#time.spend(ms);
    if (this.#spill.pins.has(prefix.id)) return;
    // Where the slot cannot come back to it, it stays.
    const { canRewind, prefillChunk } = this.#state.config;
    if (canRewind && prefix.length - reuse < prefillChunk) this.#moved.add(prefix.id);
  }

  /** Cells behind a window are not written. */
  #firstSaved({ firstCell, length }: Slot): number {
    const { canRewind, windowTokens = 0 } = this.#state.config;
    return canRewind || (firstCell === 0 && length <= windowTokens) ? 0 : length;
  }

  *#readable(): Iterable<SpilledPrefix> {
    yield* this.#kept();
    yield* this.#spill.pins.values();
  }

  *#kept(): Iterable<SpilledPrefix> {
    for (const prefix of this.#spill.prefixes.values()) if (!this.#dropped.has(prefix.id)) yield prefix;
  }

  #maySave({ id, length }: Slot, keep: number): boolean {
    if (length - keep < this.#state.config.prefillChunk || this.#state.inCopies.has(id)) return false;
    const bytes = spillBytes(this.#cost, length);
    return bytes <= this.#spill.limitBytes && transferMs(this.#cost.save, bytes) <= this.#time.leftMs;
  }

  /** How much of a slot's prefix is in another slot, in a file, or in a checkpoint that stays. */
  #tokensElsewhere({ tokens, length, cacheKey }: Slot): number {
    const { slots, config, checkpoints } = this.#state;
    let most = 0;
    const look = (prefix: Slot | SpilledPrefix, common: number): void => {
      if (mayCutTo(common, prefix, config)) most = Math.max(most, common);
    };
    const commonOf = commonWithSlots(this.#state, { tokens, length, cacheKey });
    for (const other of slots) if (!this.#given.has(other.id)) look(other, commonOf(other));
    this.#spill.order.eachCommon(cacheKey, tokens, length, (prefix, common) => {
      if (!this.#dropped.has(prefix.id)) look(prefix, common);
    });
    this.#spill.pinOrder.eachCommon(pinKeyOf(cacheKey), tokens, length, look);
    if (checkpoints?.needs !== "none") return most;
    checkpoints.order.eachCommon(cacheKey, tokens, length, (checkpoint, common) => {
      if (mayCutTo(common, checkpoint, config)) most = Math.max(most, common);
    });
    return most;
  }

  /**
   * Lets files go until there is room for one more: first those of which it has all, then what is worth least for its
   * bytes, unless that is worth more than the new one. @returns Whether there is room.
   */
  #makeRoom(superseded: readonly SpilledPrefix[], bytes: number, worthMs: number): boolean {
    const others = this.#mayGo()
      .filter((prefix) => !superseded.includes(prefix))
      .map((prefix) => ({ prefix, worthMs: this.#worthMs(prefix) }))
      .sort((a, b) => a.worthMs / a.prefix.bytes - b.worthMs / b.prefix.bytes);
    const going = new Set(superseded);
    let room = this.#spill.limitBytes - this.#usedBytes();
    for (const prefix of superseded) room += prefix.bytes;
    let lostMs = 0;
    for (const { prefix, worthMs: lostWorthMs } of others) {
      const count = this.#spill.prefixes.size - this.#dropped.size - going.size + this.#saves.length;
      if (room >= bytes && count < MOST_PREFIXES) break;
      going.add(prefix);
      room += prefix.bytes;
      lostMs += lostWorthMs;
    }
    if (room < bytes || lostMs > worthMs) return false;
    for (const { id } of going) this.#dropped.add(id);
    return true;
  }

  #mayGo(): SpilledPrefix[] {
    return [...this.#kept()].filter(({ id }) => !this.#restores.some(({ prefix }) => prefix.id === id));
  }

  /** Where what is saved can be cut to it, it is of no further use. */
  #isWithin({ tokens, length, cacheKey }: SpilledPrefix, slot: Slot): boolean {
    if (cacheKey !== slot.cacheKey || length > slot.length) return false;
    if (this.#firstSaved(slot) > 0 && length < slot.length) return false;
    return commonPrefixLength(tokens, slot.tokens, length) === length;
  }

  #worthMs(prefix: SpilledPrefix): number {
    const savedMs = this.#computeMs(prefix.length, 0) - transferMs(this.#cost.restore, prefix.bytes);
    return this.#chanceOf(prefix) * Math.max(0, savedMs);
  }

  #chanceOf(used: Used): number {
    return reuseChance(used, this.#nowMs, this.#unusedChance);
  }

  #usedBytes(): number {
    let bytes = 0;
    for (const prefix of this.#kept()) bytes += prefix.bytes;
    for (const { prefix } of this.#saves) bytes += prefix.bytes;
    return bytes;
  }
}

type SpilledSlot = Extract<BoundaryOperation, { type: "save" }>;
type RestoredSlot = Extract<BoundaryOperation, { type: "restore" }>;
