/** Downloads the files of a model from a hub into a folder, and goes on where an earlier try has stopped. */
import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readdir, readFile, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { HubError } from "./hub-error.ts";
import { filesOf, pageOf, parseHubName } from "./hub-names.ts";
import { Revision } from "./hub-revision.ts";
import { askHub, cutOff, RANGE_NOT_SATISFIABLE, wordsOf } from "./hub-request.ts";
import type { Hub, HubAnswer, HubQuestion } from "./hub-request.ts";

export interface HubDownload {
  readonly hub: Hub;
  /** `hf:org/repo`, `hf:org/repo:QUANT` or `hf:org/repo/file.gguf`. */
  readonly name: string;
  /** Receives the files and nothing else. What an earlier try has left there is used. */
  readonly directory: string;
  readonly onPart: (index: number, count: number) => void;
  readonly onProgress: (doneBytes: number, totalBytes: number) => void;
}

/** Tries without a byte of progress. The pauses between them double. */
const MAX_TRIES = 5;
const FIRST_PAUSE_MS = 500;
/** A hub that wants to be left alone for longer is obeyed by giving up. */
const MAX_PAUSE_MS = 60_000;
/** Silence that long is a connection nobody serves any more. */
const STALL_MS = 30_000;
/** What a file is called until it is whole, and the file that says which one it is. */
const PARTIAL = ".partial";
const VERSION = ".version";

/**
 * Resolves with the path of the file to load, the first of a model in parts. All are whole, as far as the hub says
 * what they should be, and on the disk.
 * @throws {HubError} When the hub does not give them, or the disk does not take them.
 */
export async function downloadFromHub(download: HubDownload): Promise<string> {
  const { hub, directory } = download;
  const name = parseHubName(download.name);
  if (name === undefined) {
    const reason = `${JSON.stringify(download.name.slice(0, 200))} is not a name of a hub`;
    throw new HubError({ reason, advice: "Write hf:org/repo/file.gguf.", isUnknown: true });
  }
  const files = await persist(hub, () => withStallWatch(({ signal }) => filesOf(hub, name, signal)));
  const page = pageOf(hub, name);
  const revision = await Revision.of(directory);
  const fetchAll = async (): Promise<void> => {
    for (const [index, file] of files.entries()) {
      download.onPart(index, files.length);
      const encoded = file.split("/").map(encodeURIComponent).join("/");
      const path = (): string => `${name.repository}/resolve/${revision.name}/${encoded}`;
      await new FileDownload(download, {
        path,
        revision,
        page,
        target: join(directory, basename(file)),
      }).run();
    }
  };
  try {
    await fetchAll();
  } catch (cause) {
    // What an earlier try has begun may be gone from the hub.
    if (!(cause instanceof HubError && cause.trouble.isUnknown === true && revision.isEarlier)) throw cause;
    await revision.drop();
    await fetchAll();
  }
  const wanted = files.map((file) => basename(file));
  for (const left of await readdir(directory)) {
    if (!wanted.includes(left)) await rm(join(directory, left), { recursive: true, force: true });
  }
  return join(directory, wanted[0] ?? "");
}

interface FileSource {
  /** At the hub, as it is to be asked for now. */
  readonly path: () => string;
  readonly revision: Revision;
  readonly page: string;
  readonly target: string;
}

interface Transfer {
  readonly answer: HubAnswer;
  /** The first byte that it brings. */
  readonly start: number;
  /** Has seen the bytes before that. */
  readonly hash: Hash;
  readonly watch: StallWatch;
}

class FileDownload {
  readonly #download: HubDownload;
  readonly #source: FileSource;
  readonly #partial: string;
  /** Bytes of the file that are on the disk. */
  #done = 0;

  constructor(download: HubDownload, source: FileSource) {
    this.#download = download;
    this.#source = source;
    this.#partial = `${source.target}${PARTIAL}`;
  }

  async run(): Promise<void> {
    if ((await sizeOf(this.#source.target)) !== undefined) return;
    await persist(
      this.#download.hub,
      () => this.#attempt(),
      () => this.#done,
    );
    await rename(this.#partial, this.#source.target);
  }

  /** Ends with the whole file under its partial name. */
  async #attempt(): Promise<void> {
    const version = await readFile(`${this.#partial}${VERSION}`, "utf8").catch(() => "");
    const have = version === "" ? 0 : ((await sizeOf(this.#partial)) ?? 0);
    const hash = createHash("sha256");
    if (have > 0) for await (const chunk of createReadStream(this.#partial)) hash.update(chunk as Buffer);
    await withStallWatch(async (watch) => {
      const ask = (headers: Record<string, string> = {}): Promise<HubAnswer> => this.#ask(watch, headers);
      if (have === 0) return await this.#receive({ answer: await ask(), start: 0, hash, watch });
      const answer = await ask({ range: `bytes=${have}-` });
      if (versionOf(answer) === version && startOf(answer) === have) {
        return await this.#receive({ answer, start: have, hash, watch });
      }
      // Another file by now, or a storage that knows no ranges.
      await answer.response.body?.cancel();
      return await this.#receive({ answer: await ask(), start: 0, hash: createHash("sha256"), watch });
    });
  }

  async #ask({ signal }: StallWatch, headers: Record<string, string>): Promise<HubAnswer> {
    const { path, page, revision } = this.#source;
    const question: HubQuestion = { path: path(), page, headers, signal };
    const answer = await askHub(this.#download.hub, question);
    await revision.note(answer.revision);
    return answer;
  }

  async #receive(transfer: Transfer): Promise<void> {
    const { answer, start, hash } = transfer;
    const file = await this.#openAt(start, versionOf(answer));
    const total = totalOf(answer, start);
    try {
      await this.#refuseWithoutRoom(total);
      if (answer.response.status !== RANGE_NOT_SATISFIABLE) await this.#copy(transfer, file, total);
      await file.sync();
    } finally {
      await file.close();
    }
    await this.#check(total, answer, hash.digest("hex"));
  }

  async #openAt(start: number, version: string): Promise<FileHandle> {
    const file = await open(this.#partial, "a");
    if (start === 0) {
      await file.truncate(0);
      await writeFile(`${this.#partial}${VERSION}`, version);
    }
    this.#done = start;
    return file;
  }

  async #copy(transfer: Transfer, file: FileHandle, total: number | undefined): Promise<void> {
    const { answer, hash, watch } = transfer;
    const chunks = answer.response.body?.[Symbol.asyncIterator]();
    for (;;) {
      let next: IteratorResult<Uint8Array> | undefined;
      try {
        next = await chunks?.next();
      } catch (cause) {
        const where = total === undefined ? "" : ` of ${total}`;
        throw cutOff(`the connection broke after ${this.#done}${where} bytes (${wordsOf(cause)})`, cause);
      }
      if (next === undefined || next.done === true) return;
      watch.alive();
      await this.#write(file, next.value, total);
      hash.update(next.value);
      this.#download.onProgress(this.#done, total ?? this.#done);
    }
  }

  async #write(file: FileHandle, bytes: Uint8Array, total: number | undefined): Promise<void> {
    try {
      for (let from = 0; from < bytes.length;) {
        from += (await file.write(bytes, from)).bytesWritten;
      }
      this.#done += bytes.length;
    } catch (cause) {
      // A write may have been taken in part; the next try continues behind what is there.
      throw await this.#noRoom(wordsOf(cause), total, cause);
    }
  }

  async #refuseWithoutRoom(total: number | undefined): Promise<void> {
    if (total === undefined) return;
    const free = await freeBytes(this.#partial);
    if (free < total - this.#done) throw await this.#noRoom("it would fill the disk", total);
  }

  async #noRoom(reason: string, total: number | undefined, cause?: unknown): Promise<HubError> {
    const folder = dirname(this.#download.directory);
    const needed = total === undefined ? "" : `${megabytes(total - this.#done)} more are needed, `;
    return new HubError(
      {
        reason: `there is no room in ${folder} (${reason})`,
        advice: `${needed}${megabytes(await freeBytes(this.#partial))} are free. Make room, or keep models elsewhere with WEFT_CACHE; the next try goes on from here.`,
      },
      { cause },
    );
  }

  async #check(total: number | undefined, answer: HubAnswer, sha256: string): Promise<void> {
    const expected = answer.bytes ?? total;
    if (expected !== undefined && this.#done !== expected) {
      if (this.#done > expected) await rm(this.#partial, { force: true });
      throw cutOff(`${this.#done} of ${expected} bytes came`, undefined);
    }
    if (answer.sha256 !== undefined && answer.sha256 !== sha256) {
      await rm(this.#partial, { force: true });
      throw new HubError({
        reason: `what came is not the file it should be (sha256 ${sha256}) and was deleted`,
        advice: "Try again.",
      });
    }
  }
}

/** What a partial file is a part of; empty where nothing says so, and it cannot be continued. */
function versionOf({ sha256, response }: HubAnswer): string {
  const tag = response.headers.get("etag") ?? "";
  return sha256 ?? (tag.startsWith("W/") ? "" : tag);
}

/** The first byte that an answer brings; the size of a file that has ended before the asked one. */
function startOf({ response }: HubAnswer): number {
  const range = response.headers.get("content-range") ?? "";
  if (response.status === RANGE_NOT_SATISFIABLE)
    return Number(/^bytes \*\/(\d{1,15})$/.exec(range)?.[1] ?? Number.NaN);
  return response.status === 206 ? Number(/^bytes (\d{1,15})-/.exec(range)?.[1] ?? Number.NaN) : 0;
}

/** Bytes of the whole file, where the storage says so. */
function totalOf({ response }: HubAnswer, start: number): number | undefined {
  if (response.status === RANGE_NOT_SATISFIABLE) return start;
  const length = response.headers.get("content-length");
  // Of a compressed answer it is the length of something else.
  if (length === null || response.headers.has("content-encoding")) return undefined;
  return start + Number(length);
}

interface StallWatch {
  readonly signal: AbortSignal;
  alive(): void;
}

async function withStallWatch<T>(work: (watch: StallWatch) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const timer = setTimeout(() => {
    controller.abort(new Error(`nothing came for ${STALL_MS / 1000} s`));
  }, STALL_MS);
  try {
    return await work({ signal: controller.signal, alive: () => void timer.refresh() });
  } finally {
    clearTimeout(timer);
    // Nobody reads on; the connection is not left open for it.
    controller.abort();
  }
}

/** Repeats what may go better the next time, as long as there is progress or a try is left. */
async function persist<T>(hub: Hub, attempt: () => Promise<T>, progress = (): number => 0): Promise<T> {
  for (let fruitless = 1; ; fruitless++) {
    const before = progress();
    try {
      return await attempt();
    } catch (cause) {
      if (!(cause instanceof HubError)) throw cause;
      const { again } = cause.trouble;
      if (progress() > before) fruitless = 1;
      const pause = again?.afterMs ?? FIRST_PAUSE_MS * 2 ** (fruitless - 1);
      if (again === undefined || fruitless === MAX_TRIES || pause > MAX_PAUSE_MS) throw cause;
      await hub.wait(pause, cause.message);
    }
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  return await stat(path).then(
    ({ size }) => size,
    () => undefined,
  );
}

async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
