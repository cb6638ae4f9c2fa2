/** The log on stderr: JSON lines for machines, one short line per event for people. */
import { pino } from "pino";
import type { Logger } from "pino";

export interface LogOptions {
  readonly level: "debug" | "info" | "warn" | "error" | "silent";
  readonly format: "auto" | "json" | "text";
}

/** Where lines go; stderr, or memory in tests. */
export interface LogTarget {
  readonly isTTY?: boolean;
  write(line: string): unknown;
}

const LEVEL_NAMES: Readonly<Record<number, string>> = {
  20: "debug",
  30: "info",
  40: "warn",
  50: "error",
  60: "fatal",
};
/** Fields of every record that a person does not need on each line. */
const PLUMBING = new Set(["level", "time", "msg", "pid", "hostname"]);

export function createLog(options: LogOptions, target: LogTarget = process.stderr): Logger {
  const asText = options.format === "text" || (options.format === "auto" && target.isTTY === true);
  return pino(
    {
      level: options.level,
      base: null,
      serializers: { err: pino.stdSerializers.err, error: pino.stdSerializers.err },
    },
    { write: (line: string) => void target.write(asText ? asLine(line) : line) },
  );
}

/** `12:00:00 warn  message  key=value …`, with control characters escaped. */
function asLine(json: string): string {
  const record = JSON.parse(json) as Record<string, unknown>;
  const time = new Date(Number(record["time"])).toISOString().slice(11, 19);
  const level = (LEVEL_NAMES[Number(record["level"])] ?? "").padEnd(5);
  const fields = Object.entries(record)
    .filter(([key]) => !PLUMBING.has(key))
    .map(([key, value]) => `${key}=${typeof value === "string" ? plain(value) : JSON.stringify(value)}`);
  return `${time} ${level} ${[plain(textOf(record["msg"])), ...fields].join(" ")}\n`;
}

function textOf(message: unknown): string {
  return typeof message === "string" ? message : "";
}

/** Text that cannot move a terminal's cursor or forge a line. */
function plain(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what it is about
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, (character) =>
    JSON.stringify(character).slice(1, -1),
  );
}
