/** The options that only `weft bench --judged` has. */
import { InvalidArgumentError } from "commander";
import type { Command } from "commander";
import { timeOption } from "../option-values.ts";
import { PARTS } from "./goals.ts";
import type { Part } from "./goals.ts";

/** Times in ms. */
export interface JudgedFlags {
  readonly rows: readonly Part[];
  readonly budget: number;
  /** A path or a model's name. */
  readonly bareModel?: string;
}

/** Beside those of a connection. */
export const JUDGED_TAKES = ["duration", "greedyKey", "rows", "budget", "bareModel"] as const;

/** Their names are those of `JudgedFlags`. */
export function addJudgedOptions(command: Command): Command {
  return command
    .option("--rows <list>", `parts of --judged (default: all): ${PARTS.join(",")}`, partNames, [...PARTS])
    .addOption(timeOption("--budget <time>", "after so long --judged begins no other part", "30m"))
    .option("--bare-model <name>", "model of --judged's bare decode loop: a path or a name");
}

function partNames(text: string): Part[] {
  return text.split(",").map((name) => {
    const part = PARTS.find((known) => known === name.trim());
    if (part === undefined) throw new InvalidArgumentError(`Expected some of ${PARTS.join(", ")}.`);
    return part;
  });
}
