import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

/** Real inference needs the cores for itself, so those files run one at a time, after the fast ones. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/with-model/**", "test/faults/with-model/**", "test/conformance/**", "test/soak/**"],
          setupFiles: ["test/support/watchdog.ts", "test/support/seeds.ts"],
          pool: "forks",
          execArgv: ["--import", new URL("test/support/typescript-loader.mjs", import.meta.url).href],
          // Vitest would leave a core to itself, half of a small machine, and has next to nothing to do.
          maxWorkers: availableParallelism(),
          env: { WEFT_CHECK_INVARIANTS: "1" },
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: "with-model",
          include: ["test/{with-model,faults/with-model,conformance}/**/*.test.ts"],
          globalSetup: ["test/support/build.ts", "test/conformance/server-setup.ts"],
          setupFiles: ["test/support/watchdog.ts", "test/support/seeds.ts"],
          pool: "forks",
          fileParallelism: false,
          env: { WEFT_CHECK_INVARIANTS: "1" },
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
