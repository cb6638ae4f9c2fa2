/** The command line's view of the option table: flags for commander, and what was given of them. */
import { Option } from "commander";
import type { Command } from "commander";
import type { OptionSpec } from "../config/option-spec.ts";
import { environmentName, serveOptionNames, serveOptions } from "../config/options.ts";
import type { ServeOptionName } from "../config/options.ts";

/** Adds every option of the table, and `--config`. */
export function addServeFlags(command: Command): Command {
  command.option("--config <file>", "JSON file with any of these options, named as here without the dashes");
  for (const name of serveOptionNames) {
    const { kind }: OptionSpec<unknown> = serveOptions[name];
    const placeholder = kind.placeholder === undefined ? "" : ` <${kind.placeholder}>`;
    const option = new Option(`--${name}${placeholder}`, describe(name));
    if (kind.repeatable)
      option.argParser((value, before: string[] | undefined) => [...(before ?? []), value]);
    command.addOption(option);
    // So that a flag can take back what the environment or the file says.
    if (kind.placeholder === undefined) command.addOption(new Option(`--no-${name}`).hideHelp());
  }
  return command;
}

/** The options that were given, by name, and the file of `--config`. */
export function givenFlags(command: Command): {
  flags: Record<string, unknown>;
  file: string | undefined;
} {
  const options: Record<string, unknown> = command.opts();
  const flags: Record<string, unknown> = {};
  for (const name of serveOptionNames) {
    const attribute = attributeName(name);
    // Commander fills in `true` for flags that have a negation.
    if (command.getOptionValueSource(attribute) === "cli") flags[name] = options[attribute];
  }
  const { config } = options;
  return { flags, file: typeof config === "string" ? config : undefined };
}

function describe(name: ServeOptionName): string {
  const { description, default: fallback }: OptionSpec<unknown> = serveOptions[name];
  const isPlain = typeof fallback === "string" || typeof fallback === "number";
  const shown = isPlain ? `, default ${fallback}` : "";
  return `${description} [${environmentName(name)}${shown}]`;
}

/** `--max-queued` is `maxQueued` to commander. */
function attributeName(name: ServeOptionName): string {
  return name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
