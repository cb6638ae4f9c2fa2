/** Times as users write them, for every command: `500ms`, `2s`, `10m`, `1h`, or a number alone. */

export type TimeUnit = "ms" | "s";

const MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000 };

/**
 * @param alone Unit of a number without one, and of the result.
 * @returns Undefined for what is no time.
 */
export function readTime(text: string, alone: TimeUnit): number | undefined {
  const [, number, unit = alone] = /^(\d+(?:\.\d+)?) *(ms|s|m|min|h)?$/.exec(text.trim()) ?? [];
  return number === undefined ? undefined : (Number(number) * (MS[unit] ?? NaN)) / (MS[alone] ?? NaN);
}
