/** Runs every policy over the same traces and says how they differ. */
import { EVEN_CPU_CHUNK } from "../../engine/llama/defaults.ts";
import { defaultConfig, withKnobs } from "../../engine/simulate/config.ts";
import type { SchedulerConfig } from "../../engine/simulate/config.ts";
import { DEVICES, passMs, withCostRatio } from "../../engine/simulate/device.ts";
import type { DeviceModel } from "../../engine/simulate/device.ts";
import { fitDevice } from "../../engine/simulate/fit-device.ts";
import { simulate } from "../../engine/simulate/simulator.ts";
import type { SimulationOptions } from "../../engine/simulate/simulator.ts";
import { deriveSeed } from "../rng.ts";
import { Collector } from "./collector.ts";
import type { SimulationReport } from "./collector.ts";
import type { SimulateOptions } from "./options.ts";
import type { Policy } from "./policies.ts";
import { createDraws } from "./random.ts";
import { deviceName, readTimeline } from "./read-timeline.ts";
import { closedWorkload, WORKLOADS } from "./workloads.ts";
import type { Workload } from "./workloads.ts";

export interface SimulatedDevice {
  readonly model: DeviceModel;
  readonly config: SchedulerConfig;
  /** Whether no GPU computes. */
  readonly cpu: boolean;
}

export interface PolicyRun {
  readonly policy: string;
  /** One for each seed. */
  readonly reports: readonly SimulationReport[];
}

export interface WorkloadRun {
  readonly workload: string;
  readonly about: string;
  /** Arrivals a second; those of `closed` follow from the answers. */
  readonly perSecond: number;
  /** Of the gaps between arrivals, where it is not the workload's own. */
  readonly cv: number | undefined;
  readonly policies: readonly PolicyRun[];
}

/** @throws {Error} When the device is a file that is no recording. */
export async function openDevice(options: SimulateOptions): Promise<SimulatedDevice> {
  const named = options.device === "cpu" || options.device === "gpu" ? options.device : undefined;
  const recording = named === undefined ? await readTimeline(options.device) : undefined;
  const model =
    recording === undefined
      ? DEVICES[named ?? "cpu"]
      : fitDevice(deviceName(recording), recording, recording.steps).device;
  return {
    model: options.costRatio === undefined ? model : withCostRatio(model, options.costRatio),
    cpu: recording?.model.device.startsWith("CPU") ?? named !== "gpu",
    config: {
      ...(recording?.config ?? defaultConfig(named ?? "cpu")),
      contextTokens: options.contextTokens,
      speculate: false,
    },
  };
}

export function workloadOf(name: string, { closed }: SimulateOptions): Workload {
  const workload =
    name === "closed" ? closedWorkload(closed.promptTokens, closed.outputTokens) : WORKLOADS[name];
  if (workload === undefined) throw new RangeError(`There is no workload "${name}".`);
  return workload;
}

export function runWorkload(
  name: string,
  { model, config, cpu }: SimulatedDevice,
  options: SimulateOptions,
  onRun: (policy: string, seed: number) => void,
): WorkloadRun {
  const workload = workloadOf(name, options);
  const perSecond =
    options.rate ?? (options.load * requestsPerSecond(workload, model, config)) / workload.perArrival;
  const settings = {
    requests: options.requests,
    perSecond,
    cv: options.cv,
    contextTokens: options.contextTokens,
    clients: options.closed.clients,
  };
  const policies = options.policies.map((policy): PolicyRun => {
    const reports = Array.from({ length: options.seeds }, (_, index) => {
      const seed = index + 1;
      onRun(policy.label, seed);
      const trace = workload.trace({ ...settings, seed });
      const collector = new Collector(options.objective);
      const totals = simulate(
        trace,
        {
          config: withKnobs(config, policyKnobs(policy, name, cpu)),
          device: model,
          lasts: noiseOf(options.noise, deriveSeed(seed, 1)),
          check: options.check,
          ...(policy.fair === undefined ? {} : { fair: policy.fair }),
        },
        collector,
      );
      return collector.report(totals);
    });
    return { policy: policy.label, reports };
  });
  return { workload: name, about: workload.about, perSecond, cv: options.cv, policies };
}

/** The clients of `closed` wait for each other by themselves: nobody is refused. */
function policyKnobs({ knobs, evenSteps }: Policy, workload: string, cpu: boolean): Partial<SchedulerConfig> {
  return {
    ...(evenSteps === true && cpu ? { prefillChunk: EVEN_CPU_CHUNK } : {}),
    ...(workload === "closed" ? { maxQueued: Infinity } : {}),
    ...knobs,
  };
}

/** What the device could serve of it if every slot were busy and nothing were shared, roughly. */
function requestsPerSecond(
  { mean }: Workload,
  device: DeviceModel,
  { slots, contextTokens }: SchedulerConfig,
): number {
  const prompt = Math.min(mean.prompt, contextTokens);
  const output = Math.min(mean.output, contextTokens);
  const blocks = Math.ceil((prompt + output / 2) / 256);
  const stepMs =
    passMs(device, slots) +
    slots * (blocks * device.decodeCellsMs + device.sampleTokenMs) +
    device.sampleCallMs +
    device.stepMs;
  const prefillMs =
    prompt * (device.prefillTokenMs + (prompt / 2000) * device.prefillCellsMs) + device.prefillCallMs;
  return 1000 / (prefillMs + (output * stepMs) / slots);
}

function noiseOf(sd: number, seed: number): SimulationOptions["lasts"] {
  const draws = createDraws(seed);
  // With a mean of 1.
  return (_nowMs, ms) => (sd === 0 ? ms : ms * Math.exp(sd * draws.normal() - (sd * sd) / 2));
}
