/** The command line's view of the option table: flags for commander, and what was given of them. */
import { Command, Option } from "commander";
import type { OptionSpec } from "../config/option-spec.ts";
import { environmentName, serveOptionNames, serveOptions } from "../config/options.ts";
import type { ServeOptionName } from "../config/options.ts";
import { SWITCH_WORDS } from "../config/value-kinds.ts";
import type { ValueKind } from "../config/value-kinds.ts";

/** A command with every option of the table, and `--config`; a switch may be said in each way that is usual. */
export class ServeCommand extends Command {
  /** Words that were taken for models' names, by the switch that they stand right behind. */
  readonly #behind = new Map<string, string>();

  constructor(name: string) {
    super(name);
    this.option("--config <file>", "JSON file with any of these options, named as here without the dashes");
    for (const option of serveOptionNames) this.addOption(flagOf(option));
  }

  override parseOptions(argv: string[]): ReturnType<Command["parseOptions"]> {
    return super.parseOptions(withValues(argv, this.#behind));
  }

  /** A model that was not found may have been meant as a switch's value; this is what to say of it then. */
  adviceOn(message: string): string {
    for (const [name, word] of this.#behind)
      if (message.includes(JSON.stringify(word)))
        return ` If it was meant for ${name}: that takes on or off.`;
    return "";
  }

  /** The options that were given, by name, and the file of `--config`. */
  given(): { flags: Record<string, unknown>; file: string | undefined } {
    const options: Record<string, unknown> = this.opts();
    const flags: Record<string, unknown> = {};
    for (const name of serveOptionNames) {
      const attribute = attributeName(name);
      if (this.getOptionValueSource(attribute) === "cli") flags[name] = options[attribute];
    }
    const { config } = options;
    return { flags, file: typeof config === "string" ? config : undefined };
  }
}

function flagOf(name: ServeOptionName): Option {
  const { kind }: OptionSpec<unknown> = serveOptions[name];
  const value = kind.placeholder === undefined ? "[on|off]" : `<${kind.placeholder}>`;
  const option = new Option(`--${name} ${value}`, describe(name));
  if (kind.repeatable) option.argParser((given, before: string[] | undefined) => [...(before ?? []), given]);
  return option;
}

/**
 * Gives each switch its value: `--plugs`, `--plugs on`, `--plugs=on`, `--no-plugs`. Commander by itself would take
 * any word behind one for its value, a model's name too.
 * @param behind Receives such other words by their switches.
 */
function withValues(argv: readonly string[], behind: Map<string, string>): string[] {
  const written: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? "";
    const next = argv[i + 1];
    if (word === "--") return [...written, ...argv.slice(i)];
    const kind = kindOf(word.slice(2));
    const denied = word.startsWith("--no-") ? kindOf(word.slice("--no-".length)) : undefined;
    if (denied !== undefined && canBeOff(denied)) written.push(`--${word.slice("--no-".length)}=off`);
    else if (kind !== undefined && word.startsWith("--") && isSwitch(kind)) {
      // Any other word behind it is a model's name.
      if (SWITCH_WORDS.has(next)) i += 1;
      else if (next !== undefined) behind.set(word, next);
      written.push(`${word}=${SWITCH_WORDS.has(next) ? next : "on"}`);
    } else {
      written.push(word);
      // A value is no option, whatever it looks like.
      if (((kind !== undefined && word.startsWith("--")) || word === "--config") && next !== undefined) {
        written.push(next);
        i += 1;
      }
    }
  }
  return written;
}

function kindOf(name: string): ValueKind<unknown> | undefined {
  const known = serveOptionNames.find((option) => option === name);
  return known === undefined ? undefined : serveOptions[known].kind;
}

function isSwitch({ placeholder }: ValueKind<unknown>): boolean {
  return placeholder === undefined;
}

/** Switches, and choices among which is `off`. */
function canBeOff(kind: ValueKind<unknown>): boolean {
  return isSwitch(kind) || kind.placeholder?.split("|").includes("off") === true;
}

function describe(name: ServeOptionName): string {
  return `${serveOptions[name].description} [${environmentName(name)}${defaultOf(serveOptions[name])}]`;
}

function defaultOf({ kind, default: value }: OptionSpec<unknown>): string {
  if (value !== undefined && kind.show !== undefined) return `, default ${kind.show(value)}`;
  if (typeof value === "boolean") return `, default ${value ? "on" : "off"}`;
  return typeof value === "string" || typeof value === "number" ? `, default ${value}` : "";
}

/** `--max-queued` is `maxQueued` to commander. */
function attributeName(name: ServeOptionName): string {
  return name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
