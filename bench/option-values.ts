/** What the values of options may be, for all commands of the bench, and what ends a command whose options are wrong. */
import { InvalidArgumentError, Option } from "commander";
import { readTime } from "../models/command-line/time-text.ts";

/** The options were wrong, or only help was asked for; `text` is for the user. */
export class OptionsExit extends Error {
  override readonly name = "OptionsExit";
  /** 0 after help, 2 for wrong usage. */
  readonly exitCode: 0 | 2;
  readonly text: string;

  constructor(exitCode: 0 | 2, text: string) {
    super(text);
    this.exitCode = exitCode;
    this.text = text;
  }
}

/** Prints the help that was asked for on stdout, and what is wrong with the options on stderr. */
export function printExit(command: string, exit: OptionsExit, output: ExitOutput): 0 | 2 {
  if (exit.exitCode === 0) output.out(`${exit.text}\n`);
  else output.err(`${exit.text.replace(/^error: /, `${command}: `)}\n`);
  return exit.exitCode;
}

interface ExitOutput {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`);
  };
}

export function positiveNumber(max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== "" && value > 0 && value <= max) return value;
    throw new InvalidArgumentError(`Expected a number above 0, at most ${max}.`);
  };
}

/** `500`, `500ms` or `0.5s`, in ms. */
export function duration(text: string): number {
  const value = readTime(text, "ms");
  if (value !== undefined && value > 0 && value <= 3_600_000) return value;
  throw new InvalidArgumentError("Expected a time such as 500ms or 2s.");
}

/** `60`, `60s` or `1m`, in seconds. */
export function seconds(max: number): (text: string) => number {
  return (text) => {
    const value = readTime(text, "s");
    if (value !== undefined && value > 0 && value <= max) return value;
    throw new InvalidArgumentError(`Expected a time above 0, at most ${max}s, such as 500ms or 2s.`);
  };
}

/** An option that `duration` reads; its default is shown as it is written. */
export function timeOption(flags: string, description: string, byDefault: string): Option {
  return new Option(flags, description).argParser(duration).default(duration(byDefault), byDefault);
}

/** At most `most` whole numbers from `min` to `max`, with commas between them. */
export function wholeNumbers(most: number, max: number, min = 1): (text: string) => number[] {
  return (text) => {
    const levels = text.split(",").map((part) => wholeNumber(min, max)(part.trim()));
    if (levels.length > most) throw new InvalidArgumentError(`At most ${most} levels.`);
    return levels;
  };
}
