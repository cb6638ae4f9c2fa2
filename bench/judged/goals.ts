/** What Weft is to reach beside another server, row by row, and how a row is judged. Numbers alone: nothing is measured here. */
import type { Interval } from "../bootstrap.ts";
import type { Spread } from "../stats.ts";

/** What is measured in one piece; a part has one or several rows. */
export const PARTS = [
  "decode",
  "bare-loop",
  "long-beside-short",
  "shared-prefix",
  "multi-turn",
  "mixed-tenants",
  "overload",
  "predicted-edit",
  "scheduler",
] as const;

export type Part = (typeof PARTS)[number];

/** One figure of a part: medians over rounds with their extremes. */
export interface Figure {
  readonly ours: Spread | undefined;
  /** Of the other server, or of the bare loop. */
  readonly theirs: Spread | undefined;
  /** Ours / theirs, round by round. */
  readonly ratio: Spread | undefined;
  /** In which the median ratio lies with 95 %, by bootstrap over rounds; undefined with fewer than three. */
  readonly interval: Interval | undefined;
}

export interface Goal {
  readonly part: Part;
  /** Names one of the part's figures. */
  readonly figure: string;
  /** For people: what is sent. */
  readonly traffic: string;
  /** Which number is judged: the ratio to theirs, or our own figure. */
  readonly of: "ratio" | "ours";
  /** The judged number is to be at least, or at most, this. */
  readonly least?: number;
  readonly most?: number;
}

export interface JudgedRow extends Goal, Figure {
  /** Undefined where it could not be judged; `why` then says why. */
  readonly met: boolean | undefined;
  readonly why?: string | undefined;
}

/** Clients of plain decoding, and sequences of the bare loop. */
export const WIDTHS = [1, 4, 8, 16] as const;

const LONG = "3,000-token prompt beside 3 streams";
const SHARED = "16 requests, 8 clients, cold shared prefix of 1,000 tokens";
const CHATS = "24 conversations";
const OVERLOAD = "users at 3 x capacity";
const EDIT = "file rewritten with one word changed, 1 client";
const STEP = "plan + apply of a step, 64 slots";

export const GOALS: readonly Goal[] = [
  ...WIDTHS.map((width): Goal => ({
    part: "decode",
    figure: `output tok/s, ${width}`,
    traffic: `plain decode, ${width} ${width === 1 ? "client" : "clients"}`,
    of: "ratio",
    least: 1,
  })),
  ...WIDTHS.map((width): Goal => ({
    part: "bare-loop",
    figure: `engine tok/s, ${width}`,
    traffic: `engine beside a bare decode loop, ${width} ${width === 1 ? "sequence" : "sequences"}`,
    of: "ratio",
    least: 0.97,
  })),
  { part: "long-beside-short", figure: "gap after ms", traffic: LONG, of: "ratio", most: 1 / 20 },
  { part: "long-beside-short", figure: "long ttft ms", traffic: LONG, of: "ratio", most: 1.3 },
  { part: "shared-prefix", figure: "total s", traffic: SHARED, of: "ratio", most: 1 / 4 },
  { part: "shared-prefix", figure: "ttft p50 ms", traffic: SHARED, of: "ratio", most: 1 / 4 },
  // Once, and what a template puts around it.
  { part: "shared-prefix", figure: "prefix computed", traffic: SHARED, of: "ours", most: 1.05 },
  { part: "multi-turn", figure: "ttft p50 ms", traffic: CHATS, of: "ratio", most: 1 / 3 },
  { part: "multi-turn", figure: "later ttft p50 ms", traffic: CHATS, of: "ratio", most: 1 / 3 },
  {
    part: "mixed-tenants",
    figure: "beside / alone",
    traffic: "a key with 5 requests beside one with 200",
    of: "ours",
    most: 1.5,
  },
  { part: "overload", figure: "goodput / capacity", traffic: OVERLOAD, of: "ours", least: 0.9 },
  { part: "overload", figure: "right %", traffic: OVERLOAD, of: "ours", least: 90 },
  { part: "predicted-edit", figure: "ratio", traffic: EDIT, of: "ours", least: 2 },
  { part: "predicted-edit", figure: "equal %", traffic: EDIT, of: "ours", least: 100 },
  { part: "scheduler", figure: "step p50 ms, 1,000", traffic: STEP, of: "ours", most: 0.5 },
  // Flat, but for what a larger heap costs a processor's cache.
  { part: "scheduler", figure: "100,000 / 1,000 waiting", traffic: STEP, of: "ours", most: 1.5 },
];

/** What a part came to: its figures by name, or why there are none. */
export type PartOutcome =
  | { readonly figures: ReadonlyMap<string, Figure>; readonly failed: readonly string[] }
  | { readonly notRun: string };

const NOTHING: Figure = { ours: undefined, theirs: undefined, ratio: undefined, interval: undefined };

/** @returns A row for each goal of the part. */
export function judge(part: Part, outcome: PartOutcome): JudgedRow[] {
  return GOALS.filter((goal) => goal.part === part).map((goal) => {
    if ("notRun" in outcome) return { ...goal, ...NOTHING, met: undefined, why: outcome.notRun };
    const figure = outcome.figures.get(goal.figure) ?? NOTHING;
    const value = (goal.of === "ratio" ? figure.ratio : figure.ours)?.median;
    if (value === undefined) {
      const alone = goal.of === "ratio" && figure.ours !== undefined && figure.theirs === undefined;
      const why = outcome.failed[0] ?? (alone ? "needs --vs" : "there was no such figure");
      return { ...goal, ...figure, met: undefined, why };
    }
    // A figure of the requests that succeeded is not one of those that were asked for.
    const met =
      outcome.failed.length === 0 && value >= (goal.least ?? -Infinity) && value <= (goal.most ?? Infinity);
    return { ...goal, ...figure, met, ...(outcome.failed.length === 0 ? {} : { why: outcome.failed[0] }) };
  });
}
