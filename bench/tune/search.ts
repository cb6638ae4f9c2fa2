/**
 * Looks for the settings that serve best: one knob after the other, each at the values around the best so far.
 *
 * What is better: within the objective before outside of it, then more tokens a second; outside of it, nearer to it.
 * A change must win by a margin and win again when it is measured a second time, because machines are noisy.
 */
import type { Objective } from "../simulate/collector.ts";
import type { Measurement } from "./measure.ts";

/** Keys as in a configuration file. */
export interface TuneSettings {
  readonly threads: number;
  readonly slots: number;
  readonly "flash-attention": "on" | "off";
  readonly "prefill-chunk": number;
  /** In ms. */
  readonly "itl-target": number;
  readonly "batch-size": number;
  readonly "kv-type": "f16" | "q8_0" | "q4_0" | "f32";
  readonly plugs: boolean;
}

export type Knob = keyof TuneSettings;

export interface Trial {
  readonly settings: TuneSettings;
  /** Undefined for the first one. */
  readonly knob: Knob | undefined;
  /** The best so far, which they were tried against. */
  readonly against: TuneSettings;
  /** Undefined when it could not be measured. */
  readonly measured: Measurement | undefined;
  readonly failure: string | undefined;
  /** Whether it was taken as the best so far. */
  readonly taken: boolean;
}

export interface SearchDeps {
  /** @throws {Error} When the settings cannot be used. */
  measure(settings: TuneSettings): Promise<Measurement>;
  /** Whether there is time for one more measurement. */
  hasTime(): boolean;
  onTrial(trial: Trial): void;
}

export interface SearchResult {
  readonly best: TuneSettings;
  readonly measured: Measurement;
  readonly trials: readonly Trial[];
  /** Whether every candidate was measured before the time was over. */
  readonly complete: boolean;
}

/** A smaller gain is noise. */
const MARGIN = 1.03;

/** Above 0; within the objective it is the rate in tokens a second, outside of it less than any of those. */
export function score(measured: Measurement, { ttftMs, itlMs }: Objective): number {
  const excess = Math.max(measured.ttftMs / ttftMs, measured.itlMs / itlMs);
  // Below every rate that anybody would want, and falling with the distance.
  return excess <= 1 ? 1 + measured.outputPerSecond : 1 / excess;
}

export function isWithin(measured: Measurement, objective: Objective): boolean {
  return score(measured, objective) >= 1;
}

/** @throws {Error} When not even the first settings can be measured. */
export async function search(
  start: TuneSettings,
  candidates: ReadonlyMap<Knob, (best: TuneSettings) => readonly TuneSettings[]>,
  objective: Objective,
  deps: SearchDeps,
): Promise<SearchResult> {
  const trials: Trial[] = [];
  const note = (trial: Trial): void => {
    trials.push(trial);
    deps.onTrial(trial);
  };
  let best = start;
  let measured = await deps.measure(start);
  note({ settings: start, knob: undefined, against: start, measured, failure: undefined, taken: true });
  for (const [knob, around] of candidates) {
    for (const settings of around(best)) {
      if (!deps.hasTime()) return { best, measured, trials, complete: false };
      const trial = await tryOut(settings, deps);
      let { result } = trial;
      let taken = false;
      if (result !== undefined && isBetter(result, measured, objective) && deps.hasTime()) {
        const again = (await tryOut(settings, deps)).result;
        result = again === undefined ? undefined : worse(result, again, objective);
        taken = result !== undefined && isBetter(result, measured, objective);
      }
      note({ settings, knob, against: best, measured: result, failure: trial.failure, taken });
      if (taken && result !== undefined) [best, measured] = [settings, result];
    }
  }
  return { best, measured, trials, complete: true };
}

async function tryOut(
  settings: TuneSettings,
  deps: SearchDeps,
): Promise<{ readonly result: Measurement | undefined; readonly failure: string | undefined }> {
  try {
    return { result: await deps.measure(settings), failure: undefined };
  } catch (error) {
    return { result: undefined, failure: error instanceof Error ? error.message : String(error) };
  }
}

function isBetter(candidate: Measurement, best: Measurement, objective: Objective): boolean {
  return score(candidate, objective) > MARGIN * score(best, objective);
}

function worse(a: Measurement, b: Measurement, objective: Objective): Measurement {
  return score(a, objective) <= score(b, objective) ? a : b;
}

/** Least tokens of a cell that are tried; without flash attention they cost no more a token than long ones. */
const LEAST_CHUNK = 16;

/** What is worth trying around the best so far, in the order in which it matters. */
export function candidatesFor(
  cores: number,
  gpu: boolean,
  { itlMs }: Objective,
): ReadonlyMap<Knob, (best: TuneSettings) => readonly TuneSettings[]> {
  const others = <K extends Knob>(
    knob: K,
    valuesOf: (best: TuneSettings) => readonly TuneSettings[K][],
  ): [Knob, (best: TuneSettings) => readonly TuneSettings[]] => [
    knob,
    (best) =>
      [...new Set(valuesOf(best))]
        .filter((value) => value !== best[knob])
        .map((value) => withRoom({ ...best, [knob]: value })),
  ];
  const powers = (value: number, least: number, most: number): number[] =>
    [value * 2, Math.floor(value / 2)].filter((other) => other >= least && other <= most);
  return new Map([
    // One less than all leaves a core to the server and its clients.
    ...(gpu
      ? []
      : [others("threads", () => [cores - 1, Math.ceil(cores / 2), 1, cores].filter((n) => n >= 1))]),
    others("slots", (best) => powers(best.slots, 1, 256)),
    // Before the cells, since it says how short they may be: a CPU's cells below a tile cost less without it.
    ["flash-attention", (best) => aroundAttention(best, gpu)],
    others("prefill-chunk", (best) => powers(best["prefill-chunk"], LEAST_CHUNK, 2048)),
    // What the scheduler holds prompts back for; steps that are half as long leave room for what else a stream waits for.
    others("itl-target", () => [itlMs, itlMs / 2].map((ms) => Math.min(Math.max(1, Math.round(ms)), 60_000))),
    others("batch-size", (best) =>
      powers(best["batch-size"], Math.max(best.slots, best["prefill-chunk"]), 4096),
    ),
    // llama.cpp has no quantized cache without flash attention.
    ["kv-type", (best) => [{ ...best, "kv-type": "q8_0", "flash-attention": "on" }]],
    others("plugs", (best) => [!best.plugs]),
  ]);
}

/** The other kind of attention; on a CPU without tiles also with the short cells that only it makes cheap. */
function aroundAttention(best: TuneSettings, gpu: boolean): readonly TuneSettings[] {
  if (best["flash-attention"] === "off") return [{ ...best, "flash-attention": "on" }];
  const without: TuneSettings = { ...best, "flash-attention": "off" };
  if (gpu || best["prefill-chunk"] <= LEAST_CHUNK) return [without];
  return [without, { ...without, "prefill-chunk": LEAST_CHUNK }];
}

/** A call must have room for every slot and for a cell. */
function withRoom(settings: TuneSettings): TuneSettings {
  const least = Math.max(settings.slots, settings["prefill-chunk"]);
  return { ...settings, "batch-size": Math.max(least, settings["batch-size"]) };
}
