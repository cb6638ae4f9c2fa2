import { defineConfig } from "vitest/config";

/** What takes minutes and is no part of `npm test`: one file at a time, on the cores that are there. */
export default defineConfig({
  test: {
    include: ["test/soak/**/*.test.ts"],
    globalSetup: ["test/support/build.ts"],
    setupFiles: ["test/support/watchdog.ts", "test/support/seeds.ts"],
    pool: "forks",
    fileParallelism: false,
    execArgv: ["--import", "tsx"],
    testTimeout: 3_600_000,
    hookTimeout: 120_000,
  },
});
