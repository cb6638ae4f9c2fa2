/** Compiles the product once, so that tests start the same files as a user does. */
import { execFileSync } from "node:child_process";

export default function build(): void {
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], {
    stdio: "inherit",
  });
}
