/** `GET /debug/timeline`: the last steps of a model's engine, as JSON that the simulator reads or as a trace. */
import { ADMISSION_NUMBERS, ENTRY_NUMBERS } from "../../engine/timeline.ts";
import type { RecordedRequest, RecordedStep, Timeline } from "../../engine/timeline.ts";
import type { AppDeps } from "../deps.ts";
import { jsonReply } from "../http/reply.ts";
import { mayActForAll } from "../middleware/authenticate.ts";
import { ApiError } from "../openai/api-error.ts";
import type { AppContext } from "./env.ts";
import { findModel } from "./find-model.ts";
import { traceEvents } from "./trace-events.ts";

/** A timeline is worth waiting one long step for, in ms. */
const WAIT_MS = 5000;
/** Newest steps that are told of when nobody says how many. */
const DEFAULT_STEPS = 1000;
/** Changes when a field of the document changes its meaning. */
const SCHEMA = "weft-timeline/1";

export async function debugTimeline(c: AppContext, deps: AppDeps): Promise<Response> {
  const model = findModel(deps, c.req.query("model") ?? deps.models.served[0]?.id);
  const steps = readSteps(c.req.query("steps"));
  const format = c.req.query("format") ?? "json";
  if (format !== "json" && format !== "trace") {
    throw new ApiError("invalid_value", `'format' must be json or trace, but is '${format}'.`, "format");
  }
  const timeline = await within(model.engine.timeline(steps), WAIT_MS);
  if (timeline === undefined) throw new ApiError("engine_restarting", "The model's engine did not answer.");
  const shown = mayActForAll(deps.config) ? timeline : withoutNames(timeline);
  if (format === "trace") return jsonReply({ traceEvents: traceEvents(shown), displayTimeUnit: "ms" });
  const { name, device, threads, flashAttention } = model.facts;
  return jsonReply({
    schema: SCHEMA,
    model: { id: model.id, name, device, threads, flashAttention },
    ...shown,
    steps: shown.steps.map(stepJson),
  });
}

function readSteps(text: string | undefined): number {
  if (text === undefined) return DEFAULT_STEPS;
  const steps = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (steps === 0)
    throw new ApiError("invalid_value", "'steps' must be a number of steps, at least 1.", "steps");
  return steps;
}

function stepJson(step: RecordedStep): object {
  return {
    ...step,
    admitted: tuples(step.admitted, ADMISSION_NUMBERS),
    calls: step.calls.map((call) => ({ ...call, entries: tuples(call.entries, ENTRY_NUMBERS) })),
  };
}

function tuples(numbers: readonly number[], each: number): number[][] {
  return Array.from({ length: numbers.length / each }, (_, i) => numbers.slice(i * each, (i + 1) * each));
}

/** Names of requests stand in the planner's reasons too. */
function withoutNames(timeline: Timeline): Timeline {
  const requests = timeline.requests.map((request): RecordedRequest => ({
    ...request,
    id: String(request.request),
    owner: "",
  }));
  return { ...timeline, requests, steps: timeline.steps.map((step) => ({ ...step, why: [] })) };
}

/** Undefined when it does not come in time or fails. */
async function within<T>(promise: Promise<T>, waitMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), waitMs);
  });
  try {
    return await Promise.race([promise.catch(() => undefined), late]);
  } finally {
    clearTimeout(timer);
  }
}
