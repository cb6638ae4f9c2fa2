/** Which files of a hub's repository a name means: `hf:org/repo`, `hf:org/repo:QUANT` or `hf:org/repo/file.gguf`. */
import { HubError } from "./hub-error.ts";
import { askHub, cutOff } from "./hub-request.ts";
import type { Hub } from "./hub-request.ts";

export interface HubName {
  /** `org/repo`. */
  readonly repository: string;
  /** Path in the repository, or undefined where the hub chooses by the tag. */
  readonly file: string | undefined;
  readonly tag: string;
}

/** What a hub may say about a file in one answer; real ones are under 10 kB. */
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
/** The largest models are spread over some 200 files. */
const MAX_PARTS = 1000;
const PART = /-(\d{5})-of-(\d{5})(\.gguf)$/i;
const MAX_NAME = 200;
const NAME = /^hf:([\w.-]+\/[\w.-]+)(?::([\w.-]+)|\/(.+))?$/;
/** What becomes a path on this machine: no folder of it leads elsewhere. */
const FILE = /^(?!.*\.\.)[\w.+ -]+(\/[\w.+ -]+)*\.gguf$/i;

/** @returns undefined for what is not written like a name of a hub. */
export function parseHubName(name: string): HubName | undefined {
  const [, repository, tag = "latest", file] = NAME.exec(name.length <= MAX_NAME ? name : "") ?? [];
  if (repository === undefined || name.includes("..")) return undefined;
  return file === undefined || FILE.test(file) ? { repository, tag, file } : undefined;
}

/** Where a person can look at a repository. */
export function pageOf(hub: Hub, name: HubName): string {
  return `${hub.endpoint}${name.repository}`;
}

/**
 * Paths in the repository, in order; several for a model in parts.
 * @throws {HubError} When the hub does not say.
 */
export async function filesOf(hub: Hub, name: HubName, signal: AbortSignal): Promise<readonly string[]> {
  const file = name.file ?? (await chosenByHub(hub, name, signal));
  const [, , parts = 0, ending = ""] = PART.exec(file) ?? [];
  const count = Number(parts);
  if (count === 0) return [file];
  if (count > MAX_PARTS) throw unusable(hub, name, `the file ${file} is one of more than ${MAX_PARTS}`);
  const stem = file.replace(PART, "");
  const digits = (value: number): string => String(value).padStart(5, "0");
  return Array.from(
    { length: count },
    (_, index) => `${stem}-${digits(index + 1)}-of-${digits(count)}${ending}`,
  );
}

/** The hub knows which file is the quantization that a tag names. */
async function chosenByHub(hub: Hub, name: HubName, signal: AbortSignal): Promise<string> {
  const page = pageOf(hub, name);
  const path = `v2/${name.repository}/manifests/${encodeURIComponent(name.tag)}`;
  const { response } = await askHub(hub, { path, page, signal });
  const manifest = parse(await boundedText(response));
  const file = property(property(manifest, "ggufFile"), "rfilename");
  if (typeof file === "string" && file.length <= 500 && FILE.test(file)) return file;
  throw unusable(
    hub,
    name,
    name.tag === "latest" ? "the repository has no GGUF file" : `the repository has no GGUF file ${name.tag}`,
  );
}

async function boundedText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response.body ?? []) {
      bytes += (chunk as Uint8Array).length;
      if (bytes > MAX_MANIFEST_BYTES) break;
      chunks.push(chunk as Uint8Array);
    }
  } catch (cause) {
    throw cutOff("the hub stopped in the middle of an answer", cause);
  }
  return Buffer.concat(chunks).toString();
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function property(of: unknown, name: string): unknown {
  return typeof of === "object" && of !== null ? Reflect.get(of, name) : undefined;
}

function unusable(hub: Hub, name: HubName, reason: string): HubError {
  return new HubError({ reason, advice: `Look at ${pageOf(hub, name)}.`, isUnknown: true });
}
