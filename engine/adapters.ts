/** LoRA adapters as a request asks for them, and the form by which calls and computed cells are told apart. */
import { EngineError } from "./errors.ts";

/** One adapter, applied to the model with a strength. */
export interface AdapterUse {
  /** Index in `LoadOptions.adapters`. */
  readonly adapter: number;
  /** 1 is as it was trained; 0 leaves the model as it is, and below that its effect is turned around. */
  readonly scale: number;
}

/** What is known of a loaded adapter. */
export interface AdapterFacts {
  /** Of all that is in the file, in hex digits. */
  readonly fingerprint: string;
}

/** All that is applied to the model in one native call; each adapter once, by index, none with a scale of 0. */
export interface AdapterSet {
  /** The same for the same files and scales, also in another process. */
  readonly key: string;
  readonly uses: readonly AdapterUse[];
}

/**
 * @returns Undefined for the model alone.
 * @throws {EngineError} `invalid_request` for an adapter that is not there or named twice, and a scale that is no number.
 */
export function adapterSet(
  uses: readonly AdapterUse[] | undefined,
  loaded: readonly AdapterFacts[] | undefined,
): AdapterSet | undefined {
  if (uses === undefined || uses.length === 0) return undefined;
  const seen = new Set<number>();
  for (const { adapter, scale } of uses) {
    if (loaded?.[adapter] === undefined || seen.has(adapter) || !Number.isFinite(Math.fround(scale)))
      throw new EngineError("invalid_request", `Adapter ${adapter} cannot be applied with scale ${scale}.`);
    seen.add(adapter);
  }
  const applied = uses
    // The runtime's own precision, so that what is the same to it is the same here.
    .map(({ adapter, scale }) => ({ adapter, scale: Math.fround(scale) }))
    .filter(({ scale }) => scale !== 0)
    .toSorted((a, b) => a.adapter - b.adapter);
  if (applied.length === 0) return undefined;
  const key = applied.map(({ adapter, scale }) => `${loaded?.[adapter]?.fingerprint}*${scale}`).join("+");
  return { key, uses: applied };
}
