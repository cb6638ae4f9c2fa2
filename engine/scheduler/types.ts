/** The scheduler's data: requests, slots, the engine state they form, and the plan of one step. */
import type { AdapterSet } from "../adapters.ts";
import type { PrefixSource, RequestId, TokenId } from "../protocol.ts";
import type { TokenTexts } from "../token-texts.ts";
import type { Appointments } from "./appointments.ts";
import type { FairnessConfig, OwnerPolicy } from "../sharing.ts";
import type { AdapterTurns } from "./adapter-turns.ts";
import type { DraftIndex } from "./draft-index.ts";
import type { OrderedHeap } from "./ordered-heap.ts";
import type { PrefixOrder } from "./prefix-order.ts";
import type { PrefixMark, PrefixTree } from "./prefix-tree.ts";
import type { Returns } from "./returns.ts";

/** Index of one llama.cpp sequence, `0 <= slot < slots`. */
export type SlotId = number;

/** Names a prefix that lies in a file; never given twice. */
export type SpillId = number;

/** Names a checkpoint; never given twice. */
export type CheckpointId = number;

/**
 * Of a model that cannot take tokens back at any time: what has to be there for a slot to come back to a checkpoint.
 * `none`: nothing, so that it may be any slot. `cells`: the cells of the tokens before it, in this slot or in one that is
 * copied to it first. `own-cells`: these, and no copy that no call has followed yet.
 */
export type CheckpointNeeds = "none" | "cells" | "own-cells";

export interface SchedulerConfig {
  readonly slots: number;
  /** Tokens one slot can hold: prompt and output together. */
  readonly contextTokens: number;
  /** Most tokens of one native call. */
  readonly batchTokens: number;
  /** Grid on which prompts are cut, in tokens; at most `batchTokens`. */
  readonly prefillChunk: number;
  /** Whether a cell of fewer tokens than a tile of attention has the bits of decoding them one by one; absent is yes. */
  readonly exactCells?: boolean;
  /** Whether whole cells that follow each other have the same bits in one call; absent is no. */
  readonly joinedCells?: boolean;
  /** Longest wanted time between two tokens of a stream, in ms. */
  readonly itlTargetMs: number;
  /** Device time that prefill gets at least while anything waits for it, 0-1 relative to decode time. */
  readonly minPrefillShare: number;
  readonly maxQueued: number;
  /**
   * Reuse only what was computed in the very shapes a cold run would use, and never decode a slot alone in a
   * pass: a pass of one runs in other kernels than a wider one.
   */
  readonly deterministic: boolean;
  /** Whether tokens may be guessed and checked several at a time. */
  readonly speculate: boolean;
  /** Whether also with adapters; absent is yes. */
  readonly speculateAdapted?: boolean;
  /** A slot that decodes alone with more cells is not guessed for. */
  readonly speculateAloneTokens: number;
  /** Whether cells can be dropped from the end of a slot (not so for recurrent and sliding-window models). */
  readonly canRewind: boolean;
  /**
   * Where they cannot at any time: how many cells before its end a slot that is cut needs to go on; absent: all of them
   * and a state that is gone.
   */
  readonly windowTokens?: number;
  /** Whether a gap between decoding slots may be closed with a throw-away token; absent is yes. */
  readonly plugGaps?: boolean;
  /**
   * How a slot is chosen; absent is `cheapest`. `oldest` is what simpler servers do, to compare with: the idle slot
   * with the longest prefix of the prompt, else the one that has been idle for longest; nothing is copied.
   */
  readonly slotChoice?: "cheapest" | "oldest";
  /** Whether who begins like a prompt that is being computed waits for it (holds.ts); absent is yes. With `oldest` there is no copy to wait for. */
  readonly prefixHolds?: boolean;
  /** Whether a request whose prompt is computed in part may go before earlier ones of its owner; absent is yes. */
  readonly prefixFirst?: boolean;
  /** Which of the prompts of one owner and class is computed first; absent is `shortest`: one that is far shorter. */
  readonly prefillOrder?: "arrival" | "shortest";
  /** Whether a slot is kept for a moment for who may ask on behind its answer, though others wait; absent is yes. */
  readonly keepSlots?: boolean;
  /**
   * So many slots are kept for prompts of fewer than `promptTokens` tokens, the whole prompt counted; fewer than there are
   * slots. Absent: none is. See reserve.ts.
   */
  readonly reserve?: { readonly slots: number; readonly promptTokens: number };
  /**
   * Which of those that are of the same class loses its slot to a higher one; absent is `least-sunk`: what is soonest computed
   * again. `least-sunk-per-token`: that over the tokens it may still say, to compare with.
   */
  readonly victim?: "least-sunk" | "least-sunk-per-token";
  /** Slots from which on prompts are looked for in a tree instead of in each slot; plans are the same. Absent: where it pays. */
  readonly prefixTreeSlots?: number;
  /** Most bytes of all prefixes that are kept in files when their slot is needed; absent or 0: none is. */
  readonly spillBytes?: number;
  /** Absent where no checkpoints are taken. `bytes`: most of all of them. */
  readonly checkpoints?: { readonly needs: CheckpointNeeds; readonly bytes: number };
  /** How slots are shared between owners and classes; absent: equally, as `DEFAULT_FAIRNESS` says. */
  readonly fairness?: FairnessConfig;
}

/**
 * `queued` waits for a slot; `prefill` and `decode` hold one. A request decodes when its slot holds all known
 * tokens but the last: the last prompt token is fed as the first decode token.
 */
export type RequestPhase = "queued" | "prefill" | "decode";

export interface ScheduledRequest {
  readonly id: RequestId;
  /** Who asked: an API key's name. */
  readonly tenant: string;
  /** The same, with what it has. */
  readonly owner: OwnerState;
  /** Class, 0 to `CLASSES - 1`; 0 is the highest. */
  priority: number;
  readonly prompt: Uint32Array;
  /** Most tokens to generate; `prompt.length + maxNew <= contextTokens`. */
  readonly maxNew: number;
  /** Cells are shared only between requests with the same key (adapters, isolation). */
  readonly cacheKey: string;
  /** What its calls are computed with; undefined is the model alone. */
  readonly adapters: AdapterSet | undefined;
  readonly reusePrefix: boolean;
  /** How long its computed prompt is to be kept before others that are as dear, in ms from when it is admitted; 0: like any. */
  readonly keepMs: number;
  /** What the client expects as the output; empty when it has not said. */
  readonly predicted: Uint32Array;
  /** Whether the logits of every prompt token but the last are wanted. Needs `reusePrefix` off. */
  readonly readsPrompt: boolean;
  /** What it counts for in the prompt tokens that its owner may have waiting. */
  readonly countedTokens: number;
  /** Order of arrival, unique. */
  readonly arrival: number;
  readonly arrivalMs: number;
  /** Since when it has waited for its turn: since it came, or since it lost its slot or was resumed. */
  waitingSinceMs: number;
  /** Tokens sampled so far. */
  readonly output: TokenId[];
  /** Guesses how it goes on; there while it holds a slot. */
  drafts: DraftIndex | undefined;
  phase: RequestPhase;
  slot: SlotId | undefined;
  admittedMs: number | undefined;
  /** When its first token came, in ms; undefined before that, and for one that is resumed. */
  firstTokenMs: number | undefined;
  /** How long the engine had rested for the prefill worker by then, or when its own prompt came from there, in ms. */
  restedBeforeMs: number;
  /** Prompt tokens whose cells were there at admission, and where those were. */
  cachedTokens: number;
  cachedFrom: PrefixSource;
  /** Since when it has been held for a prefix that another request computes; undefined: it has not been. */
  heldSinceMs: number | undefined;
  /** The last of these times, since it last lost a slot. */
  hold: Hold | undefined;
  /** Of so many of its known tokens it has had the cells, in whatever slot. */
  reachedTokens: number;
  /** Set when nobody wants it any more; it is released at the next boundary between native calls. */
  cancelled: boolean;
  /** Neither computed nor given a slot until it is resumed; keeps the slot it has while nobody needs it. */
  paused: boolean;
  /** Since when, if it is, but for what is counted already. */
  pausedSinceMs: number;
  /** How long it was since it got its slot, in ms. */
  pausedMs: number;
  /** Whether its stream stands still since its engine died, until its next token. */
  interrupted: boolean;
  /** Whether its prompt has been charged to its owner: computing it again is not the owner's doing. */
  charged: boolean;
  /** How often a later request of its owner has been given a slot before it, because of its prefix. */
  skips: number;
  /** How many later prompts of its owner have been computed before its own. */
  overtaken: number;
  /** How often it lost its slot, and when last, in ms; `-Infinity` before that. */
  evictions: number;
  evictedMs: number;
  /**
   * When it is too late to give it a slot, when its first token is of no use any more, and when it has to end with
   * what it has, in ms.
   */
  readonly startByMs: number;
  readonly firstTokenByMs: number;
  readonly endByMs: number;
  /** When its first token was to come, in ms from its arrival; undefined where nobody asked, and once that is settled or its pause or another class have made it untrue. */
  forecastMs: number | undefined;
  /** Positions of its prompt where others will want to go on; see checkpoint-plan.ts. */
  readonly branches: number[];
  /** Its place in its owner's heap; -1 while it is in none: it runs or is paused. */
  heapIndex: number;
}

/** Priority classes: high, normal, low, background. */
export const CLASSES = 4;

/** Everything of one owner: what it has been given, what it has, and who of its requests waits. */
export interface OwnerState {
  readonly name: string;
  readonly policy: OwnerPolicy;
  /** Service so far, in token costs over the weight: its virtual counter. */
  served: number;
  /** Requests that hold a slot. */
  running: number;
  /** Requests that wait, paused ones included, and their prompt tokens. */
  waiting: number;
  waitingTokens: number;
  /** What they want to say, in tokens; of those that do not tell, what most say. */
  waitingOutput: number;
  readonly returns: Returns;
  /** Of each line (reserve.ts) those that may be given a slot, as a heap by arrival. */
  readonly heaps: readonly ScheduledRequest[][];
  /** Since when the one of each line has waited that has waited for longest, in ms. */
  readonly waitedSinceMs: number[];
}

/** The owners who have requests in one line: those of a class, or with a reserve its short or its long prompts. */
export interface ClassLines {
  /** Whose turn it is: by service, then by slots, then by the arrival of their first request. */
  readonly byTurn: OrderedHeap<OwnerState>;
  /** By how long one of their requests has waited. */
  readonly byAge: OrderedHeap<OwnerState>;
  /** Requests in all of these lines. */
  waiting: number;
}

export interface Slot {
  readonly id: SlotId;
  /** Undefined when idle; the slot may still hold a resident prefix then. */
  owner: RequestId | undefined;
  /** The owner's request: every step needs it, and looking it up takes longer than what is done with it. */
  holder: ScheduledRequest | undefined;
  /** The slot's cells hold exactly `tokens[0 .. length)`. Capacity `contextTokens`. */
  readonly tokens: Uint32Array;
  length: number;
  /** Cells before it are gone, or a state stands in place of them; 0 where all are there. */
  firstCell: number;
  cacheKey: string;
  /** Cells `[0 .. gridEnd)` were computed in whole grid cells: any cold prefill would compute them alike. */
  gridEnd: number;
  /** End of the part cell computed after `gridEnd` by prefill, or `gridEnd`: alike for a prompt that ends there. */
  tailEnd: number;
  lastUseMs: number;
  /** How often its prefix was reused: a sign that it will be again. */
  hits: number;
  /** Until when a client wants them kept before others, in ms; 0: nobody has asked for it. */
  keepUntilMs: number;
  /** So many tokens of its last request's, which has left, that one which comes back begins with; 0: nothing is known of one. */
  askedTokens: number;
  /** Whose request came to its end in it last, and when, in ms, as long as nobody has gone on with it. */
  ended: { readonly tenant: string; readonly atMs: number } | undefined;
  /** Requests that came while it was idle and go on with its cells. */
  readonly followers: RequestId[];
  /** Of its tokens, ascending: it has what they need. */
  checkpoints: readonly Checkpoint[];
  /** Told of every token that is taken from the slot, for the tree of prefixes. */
  readonly mark: PrefixMark;
}

/** What a slot held at one time, kept outside of it. */
interface KeptPrefix {
  /** Exactly these. */
  readonly tokens: Uint32Array;
  readonly length: number;
  /** As a slot has it that comes back to it. */
  readonly firstCell: number;
  readonly cacheKey: string;
  /** As of the slot that it was taken from. */
  readonly gridEnd: number;
  readonly tailEnd: number;
  /** As predicted until it is there. */
  readonly bytes: number;
  lastUseMs: number;
  hits: number;
  /** As of the slot that it was taken from; absent is 0. */
  keepUntilMs?: number;
}

/** A prefix whose cells lie in a file, to be read back into a slot. */
export interface SpilledPrefix extends KeptPrefix {
  readonly id: SpillId;
}

/** One that the operator has pinned: all requests with the same adapters may read it, whatever their scope. */
export interface PinnedPrefix extends SpilledPrefix {
  /** What the operator calls it. */
  readonly name: string;
}

/** What of a slot cannot be taken back, kept in memory, so that a slot can go on from there. */
export interface Checkpoint extends KeptPrefix {
  readonly id: CheckpointId;
  /** How many slots have the cells before it. */
  slots: number;
}

export interface CheckpointState {
  readonly needs: CheckpointNeeds;
  readonly kept: Map<CheckpointId, Checkpoint>;
  /** The same by their tokens. */
  readonly order: PrefixOrder<Checkpoint>;
  /** Most bytes of all: those allowed, or less where memory has failed. */
  limitBytes: number;
  nextId: CheckpointId;
}

/** Files that there may be, since every prompt is compared with each; of as many prefixes it is known that slots have lost them. */
export const MOST_PREFIXES = 512;

/** What a slot has lost: as many tokens as its request had asked for. */
export interface LostPrefix {
  readonly length: number;
  /** As of `prefixHashes`, its key included. */
  readonly hash: number;
  /** How many are lost by when it counts as one that nobody has come back to. */
  readonly dueAt: number;
}

/** See lost-prefixes.ts. */
export interface LostPrefixes {
  /** The last ones that nobody has come back to, oldest first, and those of them that do not count as such yet. */
  readonly kept: Set<LostPrefix>;
  readonly open: Set<LostPrefix>;
  /** All of them by their lengths, ascending, and their hashes. */
  readonly lengths: number[];
  readonly byLength: Map<number, Map<number, LostPrefix>>;
  /** So many are lost before one counts. */
  readonly patience: number;
  /** All that have been lost. */
  losses: number;
  /** How many count, and how many of these somebody has come back to, the older ones for less. */
  seen: number;
  wanted: number;
}

/** The prefixes in files; undefined where none are kept. */
export interface SpillState {
  readonly lost: LostPrefixes;
  readonly prefixes: Map<SpillId, SpilledPrefix>;
  /** The same by their tokens. */
  readonly order: PrefixOrder<SpilledPrefix>;
  /** Those that nothing goes before, and the same by their tokens; their `cacheKey` is that of `pinKey`. */
  readonly pins: Map<SpillId, PinnedPrefix>;
  readonly pinOrder: PrefixOrder<PinnedPrefix>;
  /**
   * Most bytes of all files but those that are pinned: those allowed, less what has been pinned, halved with each that could
   * not be written, but no less than what is there.
   */
  limitBytes: number;
  nextId: SpillId;
}

/** A prompt that another process computes, for a slot here. */
export interface Offload {
  readonly request: RequestId;
  readonly slot: SlotId;
  /** All of the prompt but its last token. */
  readonly tokens: Uint32Array;
}

export interface OffloadState {
  /** Whether there is a worker. */
  employed: boolean;
  /** Whether it can be given a prompt. */
  ready: boolean;
  /** Whose prompt it could not compute last; not given to it again. */
  failed: RequestId | undefined;
  /** What it computes; undefined: nothing that anybody wants. */
  current: Offload | undefined;
  /** So many tokens of that it has. */
  computed: number;
  /** Device time of its prompts over what they would take here, smoothed. */
  scale: number;
  /** How long the engine has rested for it so far, in ms. */
  restedMs: number;
}

/** Writing or reading files of cells, check of their content included. */
export interface TransferCost {
  readonly callMs: number;
  readonly byteMs: number;
  /** Observed over predicted, smoothed. */
  readonly scale: number;
}

/** Of files, or of checkpoints, which lie in memory. */
export interface SpillCost {
  /** Bytes of one without cells, and of each cell. */
  readonly fileBytes: number;
  readonly tokenBytes: number;
  readonly save: TransferCost;
  readonly restore: TransferCost;
}

/**
 * Sums over calls of one kind, the older ones counting for less: x is what depth adds to a call for each ms that a token adds for
 * 1000 cells, y its time, both relative to what it would take without cells before it.
 */
export interface CallDepths {
  readonly calls: number;
  readonly x: number;
  readonly y: number;
  readonly xx: number;
  readonly xy: number;
  readonly yy: number;
}

/** What the calls cost, in ms; refined after every call. See cost-model.ts. */
export interface CostModel {
  /** A decode pass over `width` adjacent slots, at index `width`; index 0 is 0. Length `slots + 1`. */
  readonly decodePassMs: readonly number[];
  /** A decode pass over one slot with so many tokens, all of their logits wanted, at index tokens; index 0 is 0. */
  readonly checkPassMs: readonly number[];
  /** A prefill call, whatever is in it. */
  readonly prefillCallMs: number;
  readonly prefillTokenMs: number;
  /** What each prompt token adds for every 1000 cells before its call; absent is nothing. */
  readonly prefillCellsMs?: number | undefined;
  /** What each decoded token adds for every 1000 cells before it; absent is nothing. */
  readonly decodeCellsMs?: number | undefined;
  /** Of the calls so far; absent: none has been learned from. See depth-cost.ts. */
  readonly prefillDepths?: CallDepths | undefined;
  readonly decodeDepths?: CallDepths | undefined;
  /** Copying all cells of a slot to another one. */
  readonly copyMs: number;
  /** What the first call with other adapters than the one before takes longer; absent is nothing. */
  readonly switchMs?: number | undefined;
  /** Observed over predicted, smoothed; covers what the model leaves out, such as other load. */
  readonly decodeScale: number;
  /** The same for decode calls with guessed tokens. */
  readonly draftScale: number;
  readonly prefillScale: number;
  /** The last decode call: tokens in its device pass, or 0 where it had several, and observed over predicted time without the scale. */
  readonly last?:
    | {
        readonly guesses: boolean;
        readonly width: number;
        readonly ratio: number;
        /** What it computed with. */
        readonly adapters: string;
      }
    | undefined;
  /** Drawing a token and all that follows from it; absent: nothing has been drawn. */
  readonly drawMs?: number | undefined;
  /** Where prefixes may be kept in files. */
  readonly spill?: SpillCost | undefined;
  /** Where checkpoints are taken. */
  readonly checkpoint?: SpillCost | undefined;
}

/** The draft model's cells of one slot: exactly `tokens[0 .. length)`. */
export interface DraftSlot {
  /** Capacity `contextTokens`. */
  readonly tokens: Uint32Array;
  /** As far as they may be those of the slot's request; behind its known tokens they are guesses. */
  length: number;
  cacheKey: string;
  /** Chance that the next guess for its request is right, as seen lately; 0 to 1. */
  hitRate: number;
}

/** A smaller model that guesses tokens. See draft-model.ts. */
export interface DraftModel {
  readonly config: Pick<SchedulerConfig, "contextTokens" | "batchTokens" | "prefillChunk">;
  readonly slots: readonly DraftSlot[];
  /** Of its calls, drawing included. */
  cost: CostModel;
  /** The hit rate that requests begin with: that of all of them lately. */
  hitRate: number;
}

export interface SchedulerState {
  readonly config: SchedulerConfig;
  /** Of the model's tokens; undefined where nobody knows them. */
  texts: TokenTexts | undefined;
  /** Undefined where there is none. */
  draft: DraftModel | undefined;
  /** Observed over promised time of steps with guesses from the text, of those with the draft model's, and of those without, smoothed. */
  readonly guessed: {
    textMs: number;
    modelMs: number;
    plainMs: number;
    /** Time that the draft model may spend on following texts; undefined before the first step. */
    creditMs: number | undefined;
  };
  readonly slots: readonly Slot[];
  /** The same by their tokens; undefined where slots are too few for it to pay. */
  readonly prefixes: PrefixTree | undefined;
  readonly requests: Map<RequestId, ScheduledRequest>;
  /** Waiting requests, in no order that matters; at most `config.maxQueued` beyond the free slots. */
  readonly queue: Map<RequestId, ScheduledRequest>;
  /** Those who have requests, and those of the past whose counters still say something. */
  readonly owners: Map<string, OwnerState>;
  /** Those who have requests, by service. */
  readonly busyOwners: OrderedHeap<OwnerState>;
  /** Those who have none, the first one for longest. */
  readonly idleOwners: Set<OwnerState>;
  /** Of each class, and with a reserve behind these of the long prompts of each; see reserve.ts. */
  readonly lines: readonly ClassLines[];
  /** The least counter that an owner starts with when it comes back. */
  virtualFloor: number;
  /** How long slots are held, smoothed, in ms; undefined until one has been given back. */
  residenceMs: number | undefined;
  /** The same of long and of short prompts alone, where slots are kept for these; undefined until one of them has. */
  readonly residenceOf: { long: number | undefined; short: number | undefined };
  /** The same by output token, the prompt's time included. */
  tokenMs: number | undefined;
  /** Time between tokens of one request, smoothed, in ms; undefined until one of several has ended. */
  itlMs: number | undefined;
  /** What requests say of what they say that they want, smoothed; 0-1. */
  outputShare: number | undefined;
  /** How far each was off from that, and each residence from what it was before, relative to them, smoothed. */
  outputMiss: number;
  residenceMiss: number;
  /** Part of a prompt's tokens that is not found computed, smoothed; 0-1. */
  computedShare: number;
  /** Times the forecast of a first token, by when it is there nearly always; see forecast-margin.ts. */
  margin: number;
  /** When it was last moved. */
  marginTaughtMs: number;
  readonly appointments: Appointments;
  /** A heap by time. */
  readonly deadlines: Deadline[];
  readonly spill: SpillState | undefined;
  /** Undefined where none are taken. */
  readonly checkpoints: CheckpointState | undefined;
  readonly offload: OffloadState;
  /** Slots whose copies, from or to them, no call has followed: their cells can be neither saved nor restored. */
  readonly inCopies: Set<SlotId>;
  cost: CostModel;
  /**
   * What the engine has computed and waited for the device lately, where others use it too, and when that was noted last, in
   * ms; see device-share.ts.
   */
  readonly deviceShare: { workedMs: number; waitedMs: number; notedMs: number };
  /** Device time owed to prefill because decode left no room, in ms; of the requests whose turn it is. */
  prefillCreditMs: number;
  turns: AdapterTurns;
  /** Key of the adapters of the last call, where that decoded: those streams have just had their tokens. */
  justDecoded: string | undefined;
  /** What cells have taken since the last decode call, in ms: streams have waited as long for their next tokens. */
  sinceDecodeMs: number;
  nextArrival: number;
}

/** When to look whether a request is still worth computing. */
export interface Deadline {
  readonly id: RequestId;
  readonly atMs: number;
}

/** Tokens of one slot in one native call. */
export interface PlannedEntry {
  readonly slot: SlotId;
  /**
   * Undefined for a plug: a throw-away token on a slot between two decoding ones, taken back after the call,
   * because one wide device pass can cost less than two narrow ones.
   */
  readonly request: RequestId | undefined;
  /** Position of `tokens[0]`; equals the slot's length when the call runs. */
  readonly position: number;
  readonly tokens: Uint32Array;
  /** Whether the logits of the last token are wanted. */
  readonly sample: boolean;
  /** Whether the logits of every token are wanted; absent is no. */
  readonly everyLogit?: boolean;
  /** Whether the logits of the last token are computed for the sake of another entry's bits; absent is no. */
  readonly spareLogit?: boolean;
  /** How many of the tokens behind the first are guesses for this request; absent is none. */
  readonly guesses?: number;
  /** Whether they are what the client predicted; absent is no. */
  readonly ofPrediction?: boolean;
  /** Whether they are the draft model's; in a plan they are still to be made. Absent is no. */
  readonly byModel?: boolean;
}

/** Tokens of one slot for the draft model. */
export interface DraftFeed {
  readonly slot: SlotId;
  /** Position of `tokens[0]`; the draft model's cells behind it are dropped. */
  readonly position: number;
  /** Known ones. */
  readonly tokens: Uint32Array;
}

/** What the draft model computes before a decode call. */
export interface PlannedDrafting {
  /** A cell of a slot that lacks too much to be guessed for; a call of its own. */
  readonly catchUp: (DraftFeed & { readonly unscaledMs: number }) | undefined;
  /** The slots that are guessed for, ascending, with as many tokens each; `drafts` guesses follow. */
  readonly feeds: readonly DraftFeed[];
  /** All of it. */
  readonly predictedMs: number;
  /** The guesses alone, without the cost models' scales. */
  readonly unscaledMs: number;
}

/** One native call. Prefill and decode never share one: it would gain nothing and change the numerics. */
export interface PlannedCall {
  readonly kind: "decode" | "prefill";
  /** Of every request in it; absent is the model alone. */
  readonly adapters?: AdapterSet;
  /** Strictly ascending slots, one entry per slot. */
  readonly entries: readonly PlannedEntry[];
  readonly tokens: number;
  /** Guessed tokens behind the one of each slot; 0 in prefill. */
  readonly drafts: number;
  /** Its tokens times the cells before them, as far as that counts; absent is 0. */
  readonly tokenCells?: number;
  /** What comes before it, in `predictedMs` as well; absent is nothing. */
  readonly drafting?: PlannedDrafting;
  /** Tokens that it is expected to bring; the time, the draft model's and draws included; and that of each token without guesses. Absent where nobody guesses. */
  readonly promise?: { readonly tokens: number; readonly ms: number; readonly tokenMs: number };
  /** Device passes, from the pass model. */
  readonly passes: number;
  readonly predictedMs: number;
  /** The prediction without the cost model's scale; 0 where the call is not as it was planned. */
  readonly unscaledMs: number;
}

/** A change of cells between native calls. Copies and saves take what their source holds when the step begins. */
export type BoundaryOperation =
  | { readonly type: "save"; readonly slot: SlotId; readonly prefix: SpilledPrefix }
  /** Of an empty slot, or in place of what it holds. */
  | { readonly type: "restore"; readonly slot: SlotId; readonly prefix: SpilledPrefix }
  /** The prefix's file goes. */
  | { readonly type: "drop"; readonly spill: SpillId }
  | { readonly type: "checkpoint"; readonly slot: SlotId; readonly checkpoint: Checkpoint }
  /** The checkpoint goes. */
  | { readonly type: "forget"; readonly checkpoint: CheckpointId }
  | { readonly type: "copy"; readonly from: SlotId; readonly to: SlotId }
  /** The slot goes on from `length` tokens of the checkpoint's; what it lacks for that is copied to it before. */
  | {
      readonly type: "rewind";
      readonly slot: SlotId;
      readonly checkpoint: Checkpoint;
      readonly length: number;
    }
  | { readonly type: "truncate"; readonly slot: SlotId; readonly length: number };

export interface Assignment {
  readonly request: RequestId;
  readonly slot: SlotId;
  /** Tokens of the prompt already in the slot, in the one copied from, or in the file, that are kept. */
  readonly reuse: number;
  /** The slot, idle or busy, whose cells are copied first; undefined keeps the slot's own. */
  readonly copyFrom: SlotId | undefined;
  /** The prefix that is read from its file first; absent is none. */
  readonly restore?: SpillId;
  /** What the slot, or the copy, is brought back to; absent is nothing. */
  readonly checkpoint?: CheckpointId;
}

export interface Branch {
  readonly request: RequestId;
  /** On the grid. */
  readonly position: number;
}

/**
 * Why a slot is taken from its request: for a higher class, for an owner with less than its share, for another request of
 * its own owner that has all the slots it may, or because it is paused, whoever waits.
 */
export type EvictionKind = "class" | "share" | "own" | "paused";

/** A running request that loses its slot and waits again, its output kept. */
export interface Eviction {
  readonly kind: EvictionKind;
  readonly request: RequestId;
  readonly slot: SlotId;
  /** For whom; it gets this slot or one that was kept for somebody else, who has this one kept then. */
  readonly waiter: RequestId;
}

/** A waiting request waits for a prefix that another one computes. */
export interface Hold {
  readonly request: RequestId;
  readonly leader: RequestId;
  readonly sinceMs: number;
  /** What of its prompt was there without the leader's next cells. */
  readonly reuse: number;
}

export interface StepPlan {
  /** Carried out first: their slots are among those that are given away. */
  readonly evictions: readonly Eviction[];
  readonly assignments: readonly Assignment[];
  /** Waiting requests with a free slot kept for them, until a prefix that they share is computed. */
  readonly held: readonly RequestId[];
  /** Waits for a prefix that begin, with a slot kept or without; absent is none. */
  readonly holds?: readonly Hold[];
  /** Idle slots that are kept for who may go on with their cells, though others wait. */
  readonly kept: readonly SlotId[];
  /** Waiting requests that a later one has gone before; one for each time. */
  readonly passedOver: readonly RequestId[];
  /** Where prompts that are computed have to stop for a checkpoint that others will want. */
  readonly branches: readonly Branch[];
  readonly boundary: readonly BoundaryOperation[];
  /** What writing and reading files and checkpoints is predicted to take. */
  readonly keepingMs: number;
  readonly calls: readonly PlannedCall[];
  /** What the prefill worker is given; absent is nothing. */
  readonly offload?: Offload;
  readonly turns: AdapterTurns;
  /** The credit after this step. */
  readonly prefillCreditMs: number;
  /** Reasons, for traces and tests. */
  readonly why: readonly string[];
}
