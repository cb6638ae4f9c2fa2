/**
 * Warms the runtime up and measures what its calls cost, before the first request has to pay for it.
 *
 * The first call of each shape allocates and builds graphs; it is run once unmeasured.
 */
import { performance } from "node:perf_hooks";
import { calibratedCostModel, calibratedSpillCost, DEEP_CELLS } from "./scheduler/cost-model.ts";
import { adapterSet } from "./adapters.ts";
import type { AdapterSet } from "./adapters.ts";
import type { Backend, BatchEntry, Sampler } from "./backend.ts";
import type { DeviceLease } from "./device-lease.ts";
import type { MeasuredCost, ModelFacts } from "./protocol.ts";
import type { Calibration } from "./scheduler/cost-model.ts";
import type { CostModel, SpillCost } from "./scheduler/types.ts";
import type { SpillStore } from "./spill-store.ts";

const MEASURED_RUNS = 3;

/** Kernels change with the number of rows; beyond these the time grows evenly. */
const CHECKED_TOKENS = [2, 4, 8, 16, 32];

interface Measured {
  /** Draws of a decode call are measured with it; absent: the calls alone. */
  readonly sampler?: Sampler | undefined;
  /** Where prefixes are kept in files; absent where none are. */
  readonly spill?: SpillStore | undefined;
  /** Whether checkpoints are taken; absent is no. */
  readonly checkpoints?: boolean;
  /** Turns on a device that others use too: what is computed beside them takes any time. Absent where none does. */
  readonly lease?: DeviceLease | undefined;
}

/** What measures, and its turns. */
interface Device {
  readonly backend: Backend;
  readonly lease: DeviceLease | undefined;
}

/** Of what model, settings and adapters that is which one engine tells the next. */
export function modelOf({
  fingerprint,
  adapters = [],
}: Pick<ModelFacts, "fingerprint" | "adapters">): string {
  return [fingerprint, ...adapters.map((adapter) => adapter.fingerprint)].join(" ");
}

/**
 * What an earlier engine has measured of the same model, else what is measured now, in turns of which none is left open. An
 * engine that takes the place of a dead one has clients waiting in the middle of their answers: measuring takes seconds on a
 * slow device.
 * @param known Of any models.
 * @returns Nothing to hand on where the cost is known without measuring.
 */
export async function costOf(
  backend: Backend,
  known: readonly MeasuredCost[] = [],
  measured: Measured = {},
): Promise<{ cost: CostModel; measured: readonly MeasuredCost[] }> {
  if (backend.cost !== undefined) return { cost: backend.cost, measured: [] };
  const { slots } = backend.facts;
  const of = modelOf(backend.facts);
  const earlier = known.find(({ of: other, cost }) => other === of && cost.decodePassMs.length === slots + 1);
  // Files are read behind it, for which nobody needs the device.
  const measuredNow = (): Promise<CostModel> =>
    calibrate(backend, measured).finally(() => measured.lease?.free(false));
  const cost = earlier?.cost ?? (await measuredNow());
  return { cost, measured: [{ of, cost }] };
}

export async function calibrate(
  backend: Backend,
  { sampler, spill, checkpoints = false, lease }: Measured = {},
): Promise<CostModel> {
  const device: Device = { backend, lease };
  const { slots, prefillChunk, contextTokens, batchTokens, bosToken } = backend.facts;
  const token = bosToken ?? 0;
  const longest = Math.min(prefillChunk, contextTokens - 1);
  const decodeEntries = (count: number): BatchEntry[] =>
    Array.from({ length: count }, (_, slot) => ({
      slot,
      position: 0,
      tokens: Uint32Array.of(token),
      sample: true,
    }));
  const prefillEntry = (tokens: number): BatchEntry => ({
    slot: 0,
    position: 0,
    tokens: new Uint32Array(tokens).fill(token),
    sample: false,
  });
  const checkEntry = (tokens: number): BatchEntry => ({
    ...prefillEntry(tokens),
    sample: true,
    everyLogit: true,
  });
  const decode: { width: number; ms: number }[] = [];
  for (const width of measuredWidths(slots))
    decode.push({ width, ms: await measure(device, decodeEntries(width), sampler) });
  const prefill: { tokens: number; ms: number }[] = [];
  for (const tokens of [Math.ceil(longest / 4), longest])
    prefill.push({ tokens, ms: await measure(device, [prefillEntry(tokens)]) });
  const deep = await measureDeep(device, { token, longest, sampler });
  const check: { tokens: number; ms: number }[] = [];
  for (const tokens of CHECKED_TOKENS.filter((count) => count <= Math.min(batchTokens, longest)))
    check.push({ tokens, ms: await measure(device, [checkEntry(tokens)]) });
  const copyMs = slots < 2 ? 0 : await measureCopy(device, token, decode[0]?.ms ?? 0);
  const cost = calibratedCostModel({
    decode,
    prefill,
    ...deep,
    copyMs,
    check,
  });
  const switchMs = await measureSwitch(device, [prefillEntry(longest)], decodeEntries(1));
  return {
    ...cost,
    ...(switchMs === undefined ? {} : { switchMs }),
    ...(await spillCost(device, spill, longest)),
    ...(checkpoints ? await checkpointCost(device, longest) : {}),
  };
}

/** A whole prompt cell behind others, and a token behind as many; nothing where a slot has no room for more than two of them. */
async function measureDeep(
  device: Device,
  { token, longest, sampler }: { token: number; longest: number; sampler: Sampler | undefined },
): Promise<Pick<Calibration, "deep" | "deepDecode">> {
  const { backend } = device;
  const { contextTokens, batchTokens } = backend.facts;
  const cells = Math.min(DEEP_CELLS * longest, contextTokens - 1 - longest);
  if (cells < longest) return {};
  const entry = (position: number, tokens: number): BatchEntry => ({
    slot: 0,
    position,
    tokens: new Uint32Array(tokens).fill(token),
    sample: tokens === 1,
  });
  for (let position = 0; position < cells; position += batchTokens) {
    await device.lease?.turn();
    await backend.run([entry(position, Math.min(batchTokens, cells - position))]).done;
  }
  let position = cells;
  const least = async (tokens: number, runs: number): Promise<number> => {
    let ms = Infinity;
    for (let i = 0; i < runs; i++) {
      ms = Math.min(ms, await ranMs(device, [entry(position, tokens)], { sampler }));
      if (backend.canRewind) backend.truncate(0, position);
      else position += tokens;
    }
    return ms;
  };
  // Calls tell it better than more runs at a start would, once there are prompts.
  const decodeMs = await least(1, MEASURED_RUNS);
  const ms = position + longest < contextTokens ? await least(longest, backend.canRewind ? 2 : 1) : undefined;
  backend.truncate(0, 0);
  return {
    deepDecode: { cells, ms: decodeMs },
    ...(ms === undefined ? {} : { deep: { cells: position, ms } }),
  };
}

/**
 * What the first call with other adapters takes longer than the next one, in ms; undefined without adapters. Each adapter
 * computes one of each, so that one that cannot be computed with is found now.
 */
async function measureSwitch(
  device: Device,
  prompt: readonly BatchEntry[],
  token: readonly BatchEntry[],
): Promise<number | undefined> {
  const { adapters: loaded = [] } = device.backend.facts;
  const sets = Array.from(loaded.keys(), (adapter) => adapterSet([{ adapter, scale: 1 }], loaded));
  for (const set of sets) {
    await timed(device, prompt, { adapters: set });
    await timed(device, token, { adapters: set });
  }
  const [first] = sets;
  if (first === undefined) return undefined;
  let leastMs = Infinity;
  for (let run = 0; run < MEASURED_RUNS; run++) {
    await timed(device, token);
    const switchedMs = await timed(device, token, { adapters: first });
    leastMs = Math.min(leastMs, Math.max(0, switchedMs - (await timed(device, token, { adapters: first }))));
  }
  return leastMs;
}

/** Nothing where files cannot be written and read: a model whose folder is full is served without them. */
async function spillCost(
  device: Device,
  store: SpillStore | undefined,
  longest: number,
): Promise<Pick<CostModel, "spill">> {
  if (store === undefined) return {};
  try {
    return { spill: await measureSpill(device, store, longest) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    process.stderr.write(`warn: No prefixes are kept in files: ${reason}\n`);
    store.drop(0);
    device.backend.truncate(0, 0);
    return {};
  }
}

/** Two files, of one cell and of a whole prompt cell: their bytes, and what writing and reading them takes. */
async function measureSpill(
  { backend, lease }: Device,
  store: SpillStore,
  longest: number,
): Promise<SpillCost> {
  const token = backend.facts.bosToken ?? 0;
  const measured: { tokens: number; bytes: number; saveMs: number; restoreMs: number }[] = [];
  for (const tokens of [new Uint32Array(1).fill(token), new Uint32Array(longest).fill(token)]) {
    let [bytes, saveMs, restoreMs] = [0, Infinity, Infinity];
    await lease?.turn();
    await backend.run([{ slot: 0, position: 0, tokens, sample: false }]).done;
    for (let run = 0; run < MEASURED_RUNS; run++) {
      await lease?.turn();
      const startMs = performance.now();
      const file = store.create(0);
      await backend.saveCells(0, file, tokens);
      bytes = store.seal(0);
      const savedMs = performance.now();
      backend.truncate(0, 0);
      const sealed = store.verified(0);
      if (sealed === undefined) throw new Error("a file is not what was written");
      await backend.loadCells(0, sealed, tokens);
      saveMs = Math.min(saveMs, savedMs - startMs);
      restoreMs = Math.min(restoreMs, performance.now() - savedMs);
      store.drop(0);
    }
    backend.truncate(0, 0);
    measured.push({ tokens: tokens.length, bytes, saveMs, restoreMs });
  }
  return calibratedSpillCost(measured);
}

/** Nothing where none can be taken. */
async function checkpointCost(device: Device, longest: number): Promise<Pick<CostModel, "checkpoint">> {
  try {
    return { checkpoint: await measureCheckpoints(device, longest) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    process.stderr.write(`warn: No checkpoints are taken: ${reason}\n`);
    device.backend.truncate(0, 0);
    return {};
  }
}

/** Two checkpoints, of one token and of a whole prompt cell: their bytes, and what taking them and coming back takes. */
async function measureCheckpoints({ backend, lease }: Device, longest: number): Promise<SpillCost> {
  const token = backend.facts.bosToken ?? 0;
  const measured: { tokens: number; bytes: number; saveMs: number; restoreMs: number }[] = [];
  for (const tokens of [1, longest]) {
    let [bytes, saveMs, restoreMs] = [0, Infinity, Infinity];
    const cells = new Uint32Array(tokens).fill(token);
    await lease?.turn();
    await backend.run([{ slot: 0, position: 0, tokens: cells, sample: false }]).done;
    for (let run = 0; run < MEASURED_RUNS; run++) {
      await lease?.turn();
      const startMs = performance.now();
      const checkpoint = await backend.takeCheckpoint(0);
      const takenMs = performance.now();
      await backend.restoreCheckpoint(0, checkpoint, tokens);
      saveMs = Math.min(saveMs, takenMs - startMs);
      restoreMs = Math.min(restoreMs, performance.now() - takenMs);
      bytes = checkpoint.bytes;
      checkpoint.dispose();
    }
    backend.truncate(0, 0);
    measured.push({ tokens, bytes, saveMs, restoreMs });
  }
  return calibratedSpillCost(measured);
}

/** What a queued copy adds to the decode call after it, in ms: runtimes copy a slot whole, however few cells it has. */
async function measureCopy({ backend, lease }: Device, token: number, decodeMs: number): Promise<number> {
  const entry = (position: number): BatchEntry => ({
    slot: 0,
    position,
    tokens: Uint32Array.of(token),
    sample: true,
  });
  let bestMs = Infinity;
  for (let run = 0; run < MEASURED_RUNS; run++) {
    await lease?.turn();
    await backend.run([entry(0)]).done;
    const startMs = performance.now();
    await backend.copy(0, 1);
    await backend.run([entry(1)]).done;
    bestMs = Math.min(bestMs, performance.now() - startMs);
    backend.truncate(0, 0);
    backend.truncate(1, 0);
  }
  return Math.max(0, bestMs - decodeMs);
}

/** Powers of two up to the number of slots, and that number. */
function measuredWidths(slots: number): number[] {
  const widths: number[] = [];
  for (let width = 1; width < slots; width *= 2) widths.push(width);
  return [...widths, slots];
}

/** Fastest of a few runs, in ms: anything above it is other load. */
async function measure(device: Device, entries: readonly BatchEntry[], sampler?: Sampler): Promise<number> {
  let bestMs = Infinity;
  for (let run = 0; run <= MEASURED_RUNS; run++) {
    const ms = await timed(device, entries, { sampler });
    if (run > 0) bestMs = Math.min(bestMs, ms);
    // A slow model tells enough with one run.
    if (run > 0 && ms > 500) break;
  }
  return bestMs;
}

/** What a call is computed with, and drawn with where draws are measured. */
interface With {
  readonly adapters?: AdapterSet | undefined;
  readonly sampler?: Sampler | undefined;
}

/** Of one call over empty slots, in ms, and of its draws where there is a sampler. */
async function timed(device: Device, entries: readonly BatchEntry[], given: With = {}): Promise<number> {
  const ms = await ranMs(device, entries, given);
  for (const { slot } of entries) device.backend.truncate(slot, 0);
  return ms;
}

/** The same over whatever slots; they keep what they got. */
async function ranMs(
  { backend, lease }: Device,
  entries: readonly BatchEntry[],
  { adapters, sampler }: With,
): Promise<number> {
  await lease?.turn();
  const startMs = performance.now();
  const { logits, done } = backend.run(entries, adapters);
  await done;
  if (sampler !== undefined) for (const handle of logits) await sampler.sample(handle, 0, []);
  return performance.now() - startMs;
}
