/** The options that only scenarios have: their names, units and ranges. Each scenario has defaults of its own. */
import type { Command } from "commander";
import { duration, positiveNumber, wholeNumber } from "../option-values.ts";

const MOST_CONVERSATIONS = 1024;
const MOST_TURNS = 100;

/** Their names are those of `ScenarioFlags`. */
export function addScenarioOptions(command: Command): Command {
  return command
    .option("--streams <n>", "running streams of long-beside-short", wholeNumber(1, MOST_CONVERSATIONS))
    .option(
      "--conversations <n>",
      "conversations of multi-turn, agents of agent",
      wholeNumber(1, MOST_CONVERSATIONS),
    )
    .option("--turns <n>", "turns of each conversation, calls of each agent", wholeNumber(1, MOST_TURNS))
    .option(
      "--think <time>",
      "average time between a conversation's turns, or that a tool takes, such as 2s",
      duration,
    )
    .option("--few <n>", "requests of the small key of mixed-tenants", wholeNumber(1, 1000))
    .option("--greedy-key <key>", "the other key of mixed-tenants, beside --api-key")
    .option("--overload <factor>", "arrivals of overload, as a multiple of capacity", positiveNumber(100));
}
