/** Compiles the product once, so that tests start the same files as a user does. */
import { execFileSync } from "node:child_process";

/** Each project has a copy of this module, and all of them this process. */
const BUILT = "WEFT_TEST_BUILT";

export default function build(): void {
  if (process.env[BUILT] === "1") return;
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], {
    stdio: "inherit",
  });
  process.env[BUILT] = "1";
}
