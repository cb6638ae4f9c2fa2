/** Every option of `weft simulate` has its effect. */
import { expect, test } from "vitest";
import { runSimulate } from "../../../bench/simulate/cli.ts";

const RECORDING = "test/fixtures/timelines/smollm2-predicted.json.gz";

/** What a simulation found, as its JSON tells it. */
async function found(...argv: readonly string[]): Promise<unknown> {
  let out = "";
  const output = { out: (text: string) => void (out += text), err: () => undefined };
  expect(await runSimulate([...argv, "--json", "-"], output)).toBe(0);
  const { workloads, simulated } = JSON.parse(out.trim().split("\n").at(-1) ?? "") as Record<string, unknown>;
  return workloads ?? simulated;
}

const SMALL = ["--policy", "balanced", "--requests", "30", "--seeds", "1"] as const;

test.each([
  ["--requests", "31"],
  ["--seeds", "2"],
  ["--device", "gpu"],
  ["--cost-ratio", "50"],
  ["--noise", "0"],
  ["--rate", "0.01"],
  ["--load", "0.2"],
  ["--cv", "0"],
  ["--context", "128"],
  ["--ttft", "1ms"],
  ["--itl", "1ms"],
  ["--workload", "alpaca"],
])("%s %s changes what is simulated", async (option, value) => {
  const others = SMALL.filter((_, i) => SMALL[i - (i % 2)] !== option);
  expect(await found(...others, option, value)).not.toEqual(await found(...SMALL));
});

test.each([
  ["--clients", "3"],
  ["--isl", "40"],
  ["--osl", "9"],
])("%s %s changes the clients of `closed`", async (option, value) => {
  const closed = [...SMALL, "--workload", "closed"];
  expect(await found(...closed, option, value)).not.toEqual(await found(...closed));
});

test.each([
  ["--ttft", "1ms"],
  ["--itl", "1ms"],
  ["--device", "gpu"],
])("%s %s changes a replay", async (option, value) => {
  expect(await found("--replay", RECORDING, option, value)).not.toEqual(await found("--replay", RECORDING));
});

test("--context is that of the slots, too: what was made to fit is served", async () => {
  const argv = ["--workload", "summarize", "--context", "16384", "--policy", "balanced", "--seeds", "1"];
  expect(await found(...argv, "--requests", "8")).toMatchObject([
    { policies: [{ reports: [{ requests: 8, done: 8, refused: 0 }] }] },
  ]);
});
