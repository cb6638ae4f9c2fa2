/** Reads a recording as `/debug/timeline` gives it, compressed or not. */
import { readFile, stat } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import { z } from "zod";
import { PriorityClass } from "../../engine/sharing.ts";
import type { RecordedStep, Timeline } from "../../engine/timeline.ts";

/** 100,000 steps of 256 slots are smaller. */
const MAX_FILE_BYTES = 1 << 30;

const tuple = z.tuple([z.int(), z.int(), z.int(), z.int()]);
const time = z.number();

const timelineSchema = z.object({
  schema: z.literal("weft-timeline/1"),
  model: z.object({ id: z.string(), name: z.string(), device: z.string(), threads: z.number() }),
  originEpochMs: time,
  capacity: z.number(),
  config: z.object({
    slots: z.int(),
    contextTokens: z.int(),
    batchTokens: z.int(),
    prefillChunk: z.int(),
    exactCells: z.boolean().optional(),
    joinedCells: z.boolean().optional(),
    itlTargetMs: time,
    minPrefillShare: z.number(),
    maxQueued: z.int(),
    deterministic: z.boolean(),
    speculate: z.boolean(),
    // JSON has no Infinity.
    speculateAloneTokens: z.number().nullable(),
    canRewind: z.boolean(),
    plugGaps: z.boolean().optional(),
    prefixFirst: z.boolean().optional(),
    keepSlots: z.boolean().optional(),
    prefillOrder: z.enum(["arrival", "shortest"]).optional(),
    reserve: z.object({ slots: z.int(), promptTokens: z.int() }).optional(),
    slotChoice: z.enum(["cheapest", "oldest"]).optional(),
    prefixHolds: z.boolean().optional(),
  }),
  cost: z.object({
    decodePassMs: z.array(z.number()),
    checkPassMs: z.array(z.number()),
    prefillCallMs: z.number(),
    prefillTokenMs: z.number(),
    copyMs: z.number(),
    decodeScale: z.number(),
    draftScale: z.number(),
    prefillScale: z.number(),
  }),
  steps: z.array(
    z.object({
      step: z.int(),
      startMs: time,
      planMs: time,
      sideMs: time,
      running: z.int(),
      queued: z.int(),
      creditMs: time,
      admitted: z.array(tuple),
      calls: z.array(
        z.object({
          kind: z.enum(["decode", "prefill"]),
          startMs: time,
          ms: time.optional(),
          sampleMs: time,
          predictedMs: time,
          passes: z.int(),
          drafts: z.int(),
          draftMs: time.default(0),
          entries: z.array(tuple),
        }),
      ),
      why: z.array(z.string()),
    }),
  ),
  // Recordings of before have none.
  offloads: z
    .array(
      z.object({
        request: z.int(),
        slot: z.int(),
        tokens: z.int(),
        startMs: time,
        endMs: time.optional(),
        deviceMs: time,
        end: z.enum(["landed", "failed", "left"]).optional(),
      }),
    )
    .default([]),
  requests: z.array(
    z.object({
      request: z.int(),
      id: z.string(),
      owner: z.string(),
      // Earlier recordings do not say.
      priority: z.int().min(0).max(PriorityClass.background).default(PriorityClass.normal),
      promptTokens: z.int(),
      resumedTokens: z.int(),
      maxNewTokens: z.int(),
      arrivalMs: time,
      outputTokens: z.int(),
      endMs: time.optional(),
      end: z.enum(["stop", "length", "cancelled", "failed"]).optional(),
    }),
  ),
});

export interface Recording extends Timeline {
  readonly model: {
    readonly id: string;
    readonly name: string;
    readonly device: string;
    readonly threads: number;
  };
}

export function deviceName({ model }: Recording): string {
  return `${model.name}, ${model.device}`;
}

/** @throws {Error} When there is no such file, or it is no recording. */
export async function readTimeline(path: string): Promise<Recording> {
  const { size } = await stat(path);
  if (size > MAX_FILE_BYTES) throw new Error(`${path} is too large for a timeline.`);
  let json: unknown;
  try {
    const file = await readFile(path);
    const text = path.endsWith(".gz") ? gunzipSync(file, { maxOutputLength: MAX_FILE_BYTES }) : file;
    json = JSON.parse(text.toString("utf8"));
  } catch {
    throw new Error(`${path} is not JSON; fetch it from /debug/timeline.`);
  }
  const parsed = timelineSchema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Error(`${path} is no timeline: ${issue?.path.join(".")}: ${issue?.message}`);
  }
  const { config: recorded, steps, offloads, requests, ...rest } = parsed.data;
  const { reserve, ...config } = recorded;
  return {
    ...rest,
    config: {
      ...config,
      exactCells: config.exactCells ?? true,
      joinedCells: config.joinedCells ?? false,
      speculateAloneTokens: config.speculateAloneTokens ?? Infinity,
      plugGaps: config.plugGaps ?? true,
      prefixFirst: config.prefixFirst ?? true,
      keepSlots: config.keepSlots ?? true,
      // What recorded nothing of it knew no other.
      prefillOrder: config.prefillOrder ?? "arrival",
      slotChoice: config.slotChoice ?? "cheapest",
      // Before there was a knob of its own, slots chosen by age meant that nobody is held.
      prefixHolds: config.prefixHolds ?? config.slotChoice !== "oldest",
      ...(reserve === undefined ? {} : { reserve }),
    },
    steps: steps.map((step): RecordedStep => ({
      ...step,
      admitted: step.admitted.flat(),
      calls: step.calls.map((call) => ({ ...call, ms: call.ms, entries: call.entries.flat() })),
    })),
    offloads: offloads.map((offload) => ({ ...offload, endMs: offload.endMs, end: offload.end })),
    requests: requests.map((request) => ({ ...request, endMs: request.endMs, end: request.end })),
  };
}
