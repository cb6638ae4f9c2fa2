import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

const setupFiles = ["test/support/watchdog.ts", "test/support/seeds.ts"];
const env = { WEFT_CHECK_INVARIANTS: "1" };
/** Vitest leaves a core to itself, which is half of a small machine, though it has next to nothing to do. */
const maxWorkers = availableParallelism();
const withModel = { setupFiles, env, pool: "forks", testTimeout: 120_000, hookTimeout: 120_000 } as const;
/** What shares one server, and engines with several compute threads, which wait for each other busily: beside others they are ten times slower. */
const alone = [
  "test/conformance/**/*.test.ts",
  "test/with-model/{prefill-worker,random-grammars,random-schemas}.test.ts",
];

/** Projects run one after the other; files that start engines go beside each other only where an engine has one compute thread. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/with-model/**", "test/faults/with-model/**", "test/conformance/**", "test/soak/**"],
          setupFiles,
          env,
          pool: "forks",
          execArgv: ["--import", new URL("test/support/typescript-loader.mjs", import.meta.url).href],
          maxWorkers,
          sequence: { groupOrder: 0 },
          testTimeout: 60_000,
        },
      },
      {
        test: {
          ...withModel,
          name: "with-model",
          include: ["test/{with-model,faults/with-model}/**/*.test.ts"],
          exclude: alone,
          globalSetup: ["test/support/build.ts"],
          maxWorkers,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...withModel,
          name: "alone",
          include: alone,
          globalSetup: ["test/support/build.ts", "test/conformance/server-setup.ts"],
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
