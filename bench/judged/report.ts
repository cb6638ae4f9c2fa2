/** The judged table for people, as Markdown that can also be read as it stands. */
import { formatInterval, number } from "../format.ts";
import type { Spread } from "../stats.ts";
import type { JudgedRow } from "./goals.ts";

/** A reason longer than this would make the table unreadable. */
const LONGEST_REASON = 100;

export const JUDGED_FORMULAS: readonly string[] = [
  "goal            for the ratio A/B where it says so, else for A's own figure; B of the engine is the bare loop",
  "figure          as defined by the scenario of that name; median over rounds, with extremes where there are several",
  "95 % of A/B     from three rounds on: where the median ratio lies, by bootstrap over rounds",
  "right %         of all refusals of which it is known; the goal takes nine of ten for right",
  "flat            a step beside 100,000 waiting takes at most half as long again as beside 1,000",
];

export function formatJudged(rows: readonly JudgedRow[]): string[] {
  const { head, cells } = judgedTable(rows);
  const widths = head.map((name, i) => Math.max(name.length, ...cells.map((line) => line[i]?.length ?? 0)));
  const line = (texts: readonly string[]): string =>
    `| ${texts.map((text, i) => text.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  const count = (met: boolean): number => rows.filter((row) => row.met === met).length;
  const judged = count(true) + count(false);
  return [
    line(head),
    line(widths.map((width) => "-".repeat(width))),
    ...cells.map(line),
    "",
    `${count(true)} of ${judged} judged rows met, ${rows.length - judged} not judged`,
  ];
}

/** Has the column of intervals only where a row has one: that takes three rounds. */
export function judgedTable(rows: readonly JudgedRow[]): {
  readonly head: readonly string[];
  readonly cells: readonly (readonly string[])[];
} {
  const sure = rows.some(({ interval }) => interval !== undefined);
  return {
    head: ["scenario", "figure", "goal", "A", "B", "A/B", ...(sure ? ["95 % of A/B"] : []), "met"],
    cells: rows.map((row) => [
      row.traffic,
      row.figure,
      goalText(row),
      spread(row.ours),
      spread(row.theirs),
      spread(row.ratio, exact),
      ...(sure ? [formatInterval(row.interval)] : []),
      verdict(row),
    ]),
  };
}

function goalText({ of, least, most }: JudgedRow): string {
  const bound = least === undefined ? `<= ${bare(most ?? 0)}` : `>= ${bare(least)}`;
  return of === "ratio" ? `A/B ${bound}` : bound;
}

/** Three digits at most, none of them an empty one. */
function bare(value: number): string {
  return String(Number(value.toFixed(3)));
}

function spread(value: Spread | undefined, print: (value: number) => string = number): string {
  if (value === undefined) return "-";
  const { median, min, max } = value;
  return min === max ? print(median) : `${print(median)} (${print(min)} - ${print(max)})`;
}

/** A ratio is judged beside numbers such as 1.3: two digits would hide on which side it is. */
function exact(ratio: number): string {
  return ratio.toFixed(3);
}

function verdict({ met, why }: JudgedRow): string {
  const reason =
    why === undefined ? "" : why.replace(/\s+/g, " ").replaceAll("|", "/").slice(0, LONGEST_REASON);
  if (met === undefined) return `not judged: ${reason}`;
  return `${met ? "yes" : "no"}${reason === "" ? "" : `; ${reason}`}`;
}
