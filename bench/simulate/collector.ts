/** Turns what happens in a simulation into the numbers of a report, in memory that does not grow with it. */
import type { LiveRequest, SimulatedEnd, SimulationObserver } from "../../engine/simulate/simulator.ts";
import { SHORT_PROMPT_TOKENS } from "../../engine/sharing.ts";
import { Histogram } from "./histogram.ts";

/** Times in ms. */
export interface Objective {
  /** Longest wanted time to the first token. */
  readonly ttftMs: number;
  /** Longest wanted time between tokens, on average over a request. */
  readonly itlMs: number;
}

export interface Percentiles {
  readonly mean: number | undefined;
  readonly p50: number | undefined;
  readonly p90: number | undefined;
  readonly p95: number | undefined;
  readonly p99: number | undefined;
  readonly max: number | undefined;
}

/** Times in ms, rates per second of simulated time. */
export interface SimulationReport {
  readonly requests: number;
  readonly done: number;
  readonly cancelled: number;
  readonly refused: number;
  readonly durationMs: number;
  readonly outputPerSecond: number;
  readonly totalPerSecond: number;
  readonly ttftMs: Percentiles;
  /** Of prompts with fewer tokens than `SHORT_PROMPT_TOKENS`, and of the others. */
  readonly shortTtftMs: Percentiles;
  readonly longTtftMs: Percentiles;
  readonly itlMs: Percentiles;
  readonly e2eMs: Percentiles;
  readonly queueMs: Percentiles;
  /** Requests that were done within the objective, each second, and their share of all that came. */
  readonly goodPerSecond: number;
  readonly goodShare: number;
  /** Prompt tokens that were not computed. */
  readonly hitShare: number;
  /** Slots that were taken from running requests. */
  readonly evictions: number;
  readonly steps: number;
  readonly passesPerToken: number;
  readonly plugs: number;
  /** Largest difference of service between tenants that both waited, in tokens (output counts twice); 0 with one tenant. */
  readonly fairnessGap: number;
  readonly tenants: readonly {
    readonly tenant: string;
    readonly requests: number;
    readonly ttftMs: Percentiles;
  }[];
}

interface Tenant {
  readonly ttft: Histogram;
  requests: number;
  /** Requests of it that are open. */
  open: number;
  /** Those that wait for a slot. */
  waiting: number;
  service: number;
}

const OUTPUT_WEIGHT = 2;

export class Collector implements SimulationObserver {
  readonly #objective: Objective;
  readonly #ttft = new Histogram();
  readonly #shortTtft = new Histogram();
  readonly #longTtft = new Histogram();
  readonly #itl = new Histogram();
  readonly #e2e = new Histogram();
  readonly #queue = new Histogram();
  readonly #tenants = new Map<string, Tenant>();
  readonly #ends = { done: 0, cancelled: 0, refused: 0 };
  #lastName = "";
  #last: Tenant | undefined;
  #arrived = 0;
  #good = 0;
  #outputTokens = 0;
  #promptTokens = 0;
  #reusedTokens = 0;
  #evictions = 0;
  #passes = 0;
  #plugs = 0;
  #fairnessGap = 0;

  constructor(objective: Objective) {
    this.#objective = objective;
  }

  arrived({ spec }: LiveRequest): void {
    this.#arrived += 1;
    const tenant = this.#tenant(spec.tenant);
    tenant.requests += 1;
    // Whoever was away has no claim on what it did not use.
    if (tenant.open === 0) {
      const others = [...this.#tenants.values()].filter((other) => other.open > 0);
      if (others.length > 0)
        tenant.service = Math.max(tenant.service, Math.min(...others.map((t) => t.service)));
    }
    tenant.open += 1;
    tenant.waiting += 1;
  }

  token(request: LiveRequest, gapMs: number): void {
    const tenant = this.#tenant(request.spec.tenant);
    this.#outputTokens += 1;
    tenant.service += OUTPUT_WEIGHT;
    if (request.firstTokenMs !== undefined) return this.#itl.add(gapMs);
    this.#ttft.add(gapMs);
    (request.promptTokens < SHORT_PROMPT_TOKENS ? this.#shortTtft : this.#longTtft).add(gapMs);
    tenant.ttft.add(gapMs);
  }

  admitted(request: LiveRequest): void {
    const tenant = this.#tenant(request.spec.tenant);
    tenant.waiting -= 1;
    tenant.service += request.promptTokens - request.cachedTokens;
    this.#queue.add((request.admittedMs ?? 0) - request.spec.arrivalMs);
    this.#promptTokens += request.promptTokens;
    this.#reusedTokens += request.cachedTokens;
  }

  ended(request: LiveRequest, end: SimulatedEnd, nowMs: number): void {
    const { spec, firstTokenMs, lastTokenMs, outputTokens } = request;
    const tenant = this.#tenant(spec.tenant);
    this.#ends[end] += 1;
    tenant.open -= 1;
    if (request.admittedMs === undefined) tenant.waiting -= 1;
    if (end !== "done" || firstTokenMs === undefined) return;
    this.#e2e.add(nowMs - spec.arrivalMs);
    const tpotMs = outputTokens < 2 ? 0 : ((lastTokenMs ?? 0) - firstTokenMs) / (outputTokens - 1);
    const { ttftMs, itlMs } = this.#objective;
    if (firstTokenMs - spec.arrivalMs <= ttftMs && tpotMs <= itlMs) this.#good += 1;
  }

  called(call: {
    readonly passes: number;
    readonly entries: readonly { readonly request: unknown }[];
  }): void {
    this.#passes += call.passes;
    for (const { request } of call.entries) if (request === undefined) this.#plugs += 1;
  }

  stepped(_state: unknown, { evictions }: { readonly evictions: readonly unknown[] }): void {
    this.#evictions += evictions.length;
    if (this.#tenants.size < 2) return;
    let [least, most] = [Infinity, -Infinity];
    for (const { waiting, service } of this.#tenants.values()) {
      if (waiting === 0) continue;
      least = Math.min(least, service);
      most = Math.max(most, service);
    }
    if (most > least) this.#fairnessGap = Math.max(this.#fairnessGap, most - least);
  }

  report({ endMs, steps }: { readonly endMs: number; readonly steps: number }): SimulationReport {
    const seconds = endMs / 1000;
    const perSecond = (count: number): number => (seconds > 0 ? count / seconds : 0);
    return {
      requests: this.#arrived,
      ...this.#ends,
      durationMs: endMs,
      outputPerSecond: perSecond(this.#outputTokens),
      totalPerSecond: perSecond(this.#outputTokens + this.#promptTokens),
      ttftMs: percentiles(this.#ttft),
      shortTtftMs: percentiles(this.#shortTtft),
      longTtftMs: percentiles(this.#longTtft),
      itlMs: percentiles(this.#itl),
      e2eMs: percentiles(this.#e2e),
      queueMs: percentiles(this.#queue),
      goodPerSecond: perSecond(this.#good),
      goodShare: this.#arrived === 0 ? 0 : this.#good / this.#arrived,
      hitShare: this.#promptTokens === 0 ? 0 : this.#reusedTokens / this.#promptTokens,
      evictions: this.#evictions,
      steps,
      passesPerToken: this.#outputTokens === 0 ? 0 : this.#passes / this.#outputTokens,
      plugs: this.#plugs,
      fairnessGap: this.#fairnessGap,
      tenants: Array.from(this.#tenants, ([tenant, { requests, ttft }]) => ({
        tenant,
        requests,
        ttftMs: percentiles(ttft),
      })),
    };
  }

  #tenant(name: string): Tenant {
    // Every token asks, mostly about the one that the token before was of.
    if (this.#last !== undefined && name === this.#lastName) return this.#last;
    let tenant = this.#tenants.get(name);
    if (tenant === undefined) {
      tenant = { ttft: new Histogram(), requests: 0, open: 0, waiting: 0, service: 0 };
      this.#tenants.set(name, tenant);
    }
    this.#lastName = name;
    return (this.#last = tenant);
  }
}

function percentiles(histogram: Histogram): Percentiles {
  return {
    mean: histogram.mean,
    p50: histogram.percentile(0.5),
    p90: histogram.percentile(0.9),
    p95: histogram.percentile(0.95),
    p99: histogram.percentile(0.99),
    max: histogram.max,
  };
}
