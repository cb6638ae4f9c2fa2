/** The decode rate of N requests while all N decode, from the engine's own steps. */
import type { EngineEvent, EnginePort } from "../engine/protocol.ts";
import type { BenchClock } from "./clock.ts";
import { sum } from "./stats.ts";

/** One step with output, as it reached this process. */
export interface TimedStep {
  readonly atMs: number;
  readonly outputs: readonly { readonly id: string; readonly tokens: number; readonly finished: boolean }[];
}

/** The same port, which also notes its steps; their number is bounded by the tokens asked for. */
export function recordSteps(port: EnginePort, clock: BenchClock, steps: TimedStep[]): EnginePort {
  const record = (event: EngineEvent): void => {
    if (event.type !== "step" || event.outputs.length === 0) return;
    const outputs = event.outputs.map(({ id, tokens, finish }) => ({
      id,
      tokens: tokens.length,
      finished: finish !== undefined,
    }));
    steps.push({ atMs: clock.nowMs(), outputs });
  };
  return {
    send: (command) => port.send(command),
    kill: () => port.kill(),
    exited: port.exited,
    onEvent: (receiver) =>
      port.onEvent((event) => {
        record(event);
        receiver(event);
      }),
  };
}

/**
 * Tokens per second from the first step after which all requests have a token to the last one in which all
 * still decode: the tokens of the steps after the first, divided by the time between the two.
 *
 * @param requests How many must decode at once.
 * @returns Undefined when they never did for two steps.
 */
export function commonDecodeRate(steps: readonly TimedStep[], requests: number): number | undefined {
  const begun = new Set<string>();
  const first = steps.findIndex(({ outputs }) => {
    for (const { id, tokens } of outputs) if (tokens > 0) begun.add(id);
    return begun.size === requests;
  });
  if (first === -1) return undefined;
  const last = steps.findIndex(({ outputs }) => outputs.some(({ finished }) => finished));
  const start = steps[first];
  const end = steps[last];
  if (start === undefined || end === undefined || end.atMs <= start.atMs) return undefined;
  const counted = steps.slice(first + 1, last + 1).flatMap(({ outputs }) => outputs);
  return sum(counted.map(({ tokens }) => tokens)) / ((end.atMs - start.atMs) / 1000);
}
