/** Numbers of a schema as exact decimals, and the doubles next to them. */

/** `units` · 10^-`places`, with the fewest places; whole numbers have none. */
export interface Decimal {
  readonly units: bigint;
  readonly places: number;
}

/** The shortest decimal that reads as `value`, as JSON writes it. */
export function decimalOf(value: number): Decimal {
  const [mantissa = "0", exponent = "0"] = String(value).split("e");
  const [whole = "0", fraction = ""] = mantissa.split(".");
  const places = fraction.length - Number(exponent);
  const units = BigInt(whole + fraction);
  return places >= 0 ? { units, places } : { units: units * 10n ** BigInt(-places), places: 0 };
}

/** In units of 10^-places, rounded towards minus infinity. */
export function floorUnits({ units, places }: Decimal, at: number): bigint {
  if (at >= places) return units * 10n ** BigInt(at - places);
  const divisor = 10n ** BigInt(places - at);
  const quotient = units / divisor;
  return units < 0n && quotient * divisor !== units ? quotient - 1n : quotient;
}

/** In units of 10^-places, rounded towards infinity. */
export function ceilUnits(value: Decimal, at: number): bigint {
  return -floorUnits({ units: -value.units, places: value.places }, at);
}

/** Whether `value` is a whole number of `step`s; both are taken as they are written. */
export function isMultiple(value: number, step: number): boolean {
  const [number, unit] = [decimalOf(value), decimalOf(step)];
  const places = Math.max(number.places, unit.places);
  return floorUnits(number, places) % floorUnits(unit, places) === 0n;
}

/** The next larger double. */
export function nextUp(value: number): number {
  if (value === 0) return Number.MIN_VALUE;
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  view.setBigInt64(0, view.getBigInt64(0) + (value > 0 ? 1n : -1n));
  return view.getFloat64(0);
}

export function nextDown(value: number): number {
  return -nextUp(-value);
}

export function gcd(a: bigint, b: bigint): bigint {
  let [left, right] = [a < 0n ? -a : a, b < 0n ? -b : b];
  while (right > 0n) [left, right] = [right, left % right];
  return left;
}
