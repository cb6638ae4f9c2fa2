/** `weft doctor`: checks what a server needs from this machine, one line per check. */
import { accessSync, constants, existsSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { modelCacheDirectory } from "../../models/download.ts";
import { readGgufHeader } from "../../models/gguf-header.ts";
import { packageRoot } from "../../models/package-root.ts";
import { ExitCode } from "./exit-codes.ts";

interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

/** What package.json demands. */
const LEAST_NODE = [20, 19] as const;
/** Below this even a small chat model and its context do not fit. */
const LEAST_FREE_BYTES = 512 * 1024 * 1024;

/** Prints the checks; the exit code is 1 when one fails. */
export function runDoctor(): ExitCode {
  const checks = [checkNode(), checkRuntime(), checkMemory(), checkCores(), checkCache(), checkPocket()];
  for (const { name, ok, detail } of checks) {
    process.stdout.write(`${ok ? "ok    " : "FAILED"}  ${name.padEnd(8)} ${detail}\n`);
  }
  return checks.every(({ ok }) => ok) ? ExitCode.ok : ExitCode.failed;
}

function checkNode(): Check {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const ok = major > LEAST_NODE[0] || (major === LEAST_NODE[0] && minor >= LEAST_NODE[1]);
  const advice = ok ? "" : `; install Node ${LEAST_NODE.join(".")} or newer`;
  return { name: "node", ok, detail: `${process.versions.node}${advice}` };
}

/** Whether a prebuilt llama.cpp for this system is installed. Only looks: native code stays out of this process. */
function checkRuntime(): Check {
  const wanted = `${process.platform === "darwin" ? "mac" : process.platform === "win32" ? "win" : "linux"}-${process.arch}`;
  const scope = join(packageRoot, "node_modules/@node-llama-cpp");
  const besideUs = existsSync(join(scope, wanted)) || existsSync(join(scope, `${wanted}-metal`));
  if (besideUs || isInstalled(`@node-llama-cpp/${wanted}`))
    return { name: "runtime", ok: true, detail: `llama.cpp for ${wanted}` };
  return {
    name: "runtime",
    ok: false,
    detail: `no prebuilt llama.cpp for ${wanted}; run "npm install" without --omit=optional`,
  };
}

function isInstalled(name: string): boolean {
  try {
    return existsSync(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)));
  } catch {
    return false;
  }
}

function checkMemory(): Check {
  const ok = freemem() >= LEAST_FREE_BYTES;
  const advice = ok ? "" : "; close other programs or choose a small model";
  return { name: "memory", ok, detail: `${gigabytes(freemem())} free of ${gigabytes(totalmem())}${advice}` };
}

function checkCores(): Check {
  return { name: "cores", ok: true, detail: `${availableParallelism()} (${cpus()[0]?.model ?? "unknown"})` };
}

function checkCache(): Check {
  const directory = modelCacheDirectory(process.env);
  let existing = directory;
  while (!existsSync(existing) && dirname(existing) !== existing) existing = dirname(existing);
  try {
    accessSync(existing, constants.W_OK);
    return { name: "cache", ok: true, detail: directory };
  } catch {
    return {
      name: "cache",
      ok: false,
      detail: `cannot write to ${existing}; set WEFT_CACHE to another folder`,
    };
  }
}

function checkPocket(): Check {
  try {
    const header = readGgufHeader(join(packageRoot, "models/pocket.gguf"));
    return { name: "pocket", ok: true, detail: `embedded model is whole (${header.tensorCount} tensors)` };
  } catch (cause) {
    return { name: "pocket", ok: false, detail: cause instanceof Error ? cause.message : String(cause) };
  }
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
