/** The simulator's baseline is first come, first served, whoever asks; and each knob that says who goes first has its effect. */
import { expect, test } from "vitest";
import { defaultConfig, withKnobs } from "../../../engine/simulate/config.ts";
import { DEVICES } from "../../../engine/simulate/device.ts";
import { simulate } from "../../../engine/simulate/simulator.ts";
import { Collector } from "../../../bench/simulate/collector.ts";
import { readPolicy } from "../../../bench/simulate/policies.ts";
import { WORKLOADS } from "../../../bench/simulate/workloads.ts";

/** Requests in the order in which they got their first slot, numbered in the order in which they came; on a busy device. */
function served(label: string, workload: string) {
  const policy = readPolicy(label);
  if (typeof policy === "string") throw new Error(policy);
  const config = withKnobs({ ...defaultConfig("gpu"), slots: 4, maxQueued: 10_000 }, policy.knobs);
  const settings = { requests: 60, seed: 1, perSecond: 5, contextTokens: config.contextTokens, clients: 6 };
  const order: number[] = [];
  const report = new (class extends Collector {
    override admitted(...[request]: Parameters<Collector["admitted"]>): void {
      order.push(Number(request.id));
      super.admitted(request);
    }
  })({ ttftMs: 2000, itlMs: 200 });
  const device = { config, device: DEVICES.gpu, lasts: (_nowMs: number, ms: number) => ms, check: false };
  const fair = policy.fair === undefined ? {} : { fair: policy.fair };
  const totals = simulate(WORKLOADS[workload]?.trace(settings) ?? [], { ...device, ...fair }, report);
  return { order, report: report.report(totals) };
}

test.each(Object.keys(WORKLOADS))("the baseline serves %s in the order of arrival", (workload) => {
  const { order, report } = served("baseline", workload);
  expect(order.length).toBeGreaterThan(10);
  expect(order).toEqual([...order].sort((a, b) => a - b));
  expect(report.evictions).toBe(0);
});

test.each(["tenants", "classes"])("fair=on has the baseline tell apart who asks in %s", (workload) => {
  const { order } = served("baseline,fair=on", workload);
  expect(order).not.toEqual([...order].sort((a, b) => a - b));
});

test("fair=off has another policy tell nobody apart, and the report still does", () => {
  const { report } = served("balanced,fair=off", "tenants");
  expect(report.tenants.map(({ tenant }) => tenant).sort()).toEqual(["long", "short"]);
  expect(report).not.toEqual(served("balanced", "tenants").report);
  expect(served("balanced,fair=on", "tenants")).toEqual(served("balanced", "tenants"));
});

test("eviction=off takes no slot from anybody", () => {
  expect(served("balanced", "classes").report.evictions).toBeGreaterThan(0);
  expect(served("balanced,eviction=off", "classes").report.evictions).toBe(0);
});

test("aging-quantum is how long a class waits for its turn beside the one above", () => {
  const background = (label: string): number[] => served(label, "classes").order;
  expect(background("balanced,aging-quantum=30000")).toEqual(background("balanced"));
  expect(background("balanced,aging-quantum=100")).not.toEqual(background("balanced"));
});

test("knobs of fairness do not undo each other", () => {
  expect(readPolicy("balanced,eviction=off,aging-quantum=500")).toMatchObject({
    knobs: { fairness: { evict: false, agingQuantumMs: 500 } },
  });
  expect(readPolicy("baseline,aging-quantum=500")).toMatchObject({
    fair: false,
    knobs: { fairness: { evict: false, agingQuantumMs: 500 } },
  });
  expect(readPolicy("balanced,fair=yes")).toContain('"fair=yes"');
});

test("prefix-holds is whether anybody waits for a prefix in the making, which the baseline does not", () => {
  const reportOf = (label: string): unknown => served(label, "agent").report;
  expect(reportOf("balanced,prefix-holds=on")).toEqual(reportOf("balanced"));
  expect(reportOf("balanced,prefix-holds=off")).not.toEqual(reportOf("balanced"));
  expect(reportOf("baseline,prefix-holds=off")).toEqual(reportOf("baseline"));
  expect(reportOf("baseline,prefix-holds=on")).not.toEqual(reportOf("baseline"));
});
