/**
 * The journal of stored responses as a file of JSON lines: one for each response, one for each deletion. It is
 * rewritten with only what still counts when a process opens it and whenever most of it is out of date.
 */
import { copyFile, open, readFile, rename, rm } from "node:fs/promises";
import { isObject } from "../http/json.ts";
import type { ResponseRecord } from "./record.ts";
import type { Journal } from "./response-store.ts";

/** Below this a file is not worth rewriting. */
const MIN_REWRITE_SIZE = 1024 * 1024;

/** Lines that wait for a slow disk, in UTF-16 units; beyond it responses are kept in memory alone. */
const MAX_WAITING = 64 * 1024 * 1024;

/** Written at once, in UTF-16 units, unless a line is longer: in between others are served. */
const PIECE_SIZE = 128 * 1024;

/** Ends what may be half a line. */
const LINE_END = "\n";

/** What a disk without room says: it may have some again, and nobody has to wait for that to start. */
const NO_ROOM: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT"]);

/** Changes between two tries at most. */
const MOST_UNTIL_TRY = 64;

/** Conversations are nobody else's business. */
const OWNER_ONLY = 0o600;

export interface ResponseFileOptions {
  readonly path: string;
  /** The file could not be written or read; what is lost is in the message. */
  readonly onProblem: (error: Error, message: string) => void;
}

/** What counts, as JSON of records: what the file is rewritten with. */
export interface JournalSource {
  /** Length of all of it, in UTF-16 units. */
  readonly size: number;
  records(): Iterable<ResponseRecord>;
}

export class ResponseFile implements Journal {
  readonly #options: ResponseFileOptions;
  #source: JournalSource | undefined;
  #fileSize = 0;
  #isPartlyUnread = false;
  #waiting: string[] = [];
  #waitingSize = 0;
  #writing: Promise<void> | undefined;
  /** Tries in a row that failed, and changes until the next one: each takes as long as all that waits. */
  #failures = 0;
  #untilTry = 0;

  /** Touches nothing yet. */
  constructor(options: ResponseFileOptions) {
    this.#options = options;
  }

  /**
   * The responses in the file, the oldest first; none when there is no file.
   * @throws {Error} With the system's code, when it cannot be read.
   */
  async read(): Promise<ResponseRecord[]> {
    return this.#parse(await readFile(this.#options.path, "utf8").catch(absent));
  }

  /**
   * Writes what counts, and from now on every change. A file of which something could not be read, such as one of a
   * later version, is kept beside it as `.old`. On a full disk the file stays as it is, and is written on later.
   * @throws {Error} With the system's code, when it cannot be written for another reason.
   */
  async start(source: JournalSource): Promise<void> {
    this.#source = source;
    try {
      await this.#rewrite(source);
    } catch (error) {
      if (!NO_ROOM.has(codeOf(error))) throw error;
      this.#fail(error, []);
    }
  }

  put(json: string): void {
    this.#append(putLine(json));
  }

  delete(id: string): void {
    this.#append(`${JSON.stringify({ delete: id })}\n`);
  }

  /** Resolves when everything so far is written, or has failed to be. */
  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
    // What has failed before may do now.
    if (this.#waiting.length > 0) await this.#write();
  }

  #append(line: string): void {
    if (this.#waitingSize + line.length > MAX_WAITING) {
      this.#options.onProblem(
        new Error("The disk is too slow."),
        "a stored response is not written to its file",
      );
      return;
    }
    this.#waiting.push(line);
    this.#waitingSize += line.length;
    if (this.#untilTry > 0) this.#untilTry -= 1;
    else this.#writing ??= this.#write();
  }

  /** Never rejects. */
  async #write(): Promise<void> {
    let lines: readonly string[] = [];
    try {
      while (this.#waiting.length > 0) {
        lines = this.#waiting;
        const size = this.#fileSize + this.#waitingSize;
        this.#waiting = [];
        this.#waitingSize = 0;
        const source = this.#source;
        const isOutdated = source !== undefined && size > Math.max(MIN_REWRITE_SIZE, 2 * source.size);
        if (isOutdated) await this.#rewrite(source);
        else this.#fileSize += await writeLines(this.#options.path, "a", lines);
        this.#failures = 0;
      }
    } catch (error) {
      this.#fail(error, lines);
    } finally {
      this.#writing = undefined;
    }
  }

  /** What was not written is written with a later change, apart from what may be half a line of it. */
  #fail(error: unknown, lines: readonly string[]): void {
    const again = lines[0] === LINE_END ? lines : [LINE_END, ...lines];
    this.#waiting = [...again, ...this.#waiting];
    for (const { length } of again) this.#waitingSize += length;
    this.#untilTry = Math.min(2 ** this.#failures, MOST_UNTIL_TRY) - 1;
    this.#failures += 1;
    this.#options.onProblem(
      error instanceof Error ? error : new Error(String(error)),
      "stored responses are not written to their file",
    );
  }

  /**
   * Under another name, so that a crash leaves the old file or the new one. What changes meanwhile is appended after it.
   */
  async #rewrite(source: JournalSource): Promise<void> {
    const { path } = this.#options;
    if (this.#isPartlyUnread) await copyFile(path, `${path}.old`);
    this.#isPartlyUnread = false;
    try {
      const size = await writeLines(`${path}.new`, "w", putLines([...source.records()]));
      await rename(`${path}.new`, path);
      this.#fileSize = size;
    } catch (error) {
      // It would take the room that the file itself needs.
      await rm(`${path}.new`, { force: true }).catch(() => undefined);
      throw error;
    }
  }

  /** A crash can leave half a last line; a line that cannot be read costs that response alone. */
  #parse(content: string): ResponseRecord[] {
    const records = new Map<string, ResponseRecord>();
    let unreadable = 0;
    for (const line of content.split("\n")) {
      if (line === "") continue;
      const entry = readLine(line);
      if (entry === undefined) {
        unreadable += 1;
      } else if ("deleted" in entry) {
        records.delete(entry.deleted);
      } else {
        const { id } = entry.record.head;
        records.delete(id);
        records.set(id, entry.record);
      }
    }
    this.#isPartlyUnread = unreadable > 0;
    if (this.#isPartlyUnread) {
      this.#options.onProblem(
        new Error(`${unreadable} unreadable lines`),
        "some stored responses could not be read and are left out; the file is kept as .old",
      );
    }
    return [...records.values()];
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

/**
 * A piece after the other.
 * @returns What has been written, in UTF-16 units.
 */
async function writeLines(path: string, flags: "a" | "w", lines: Iterable<string>): Promise<number> {
  const file = await open(path, flags, OWNER_ONLY);
  let written = 0;
  try {
    for (const piece of piecesOf(lines)) {
      await file.appendFile(piece);
      written += piece.length;
    }
  } finally {
    await file.close();
  }
  return written;
}

function* piecesOf(lines: Iterable<string>): Generator<string, void, void> {
  let piece: string[] = [];
  let size = 0;
  for (const line of lines) {
    piece.push(line);
    size += line.length;
    if (size < PIECE_SIZE) continue;
    yield piece.join("");
    piece = [];
    size = 0;
  }
  if (size > 0) yield piece.join("");
}

function* putLines(records: readonly ResponseRecord[]): Generator<string, void, void> {
  for (const record of records) yield putLine(JSON.stringify(record));
}

function putLine(json: string): string {
  return `{"put":${json}}\n`;
}

type Line = { readonly record: ResponseRecord } | { readonly deleted: string };

function readLine(line: string): Line | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!isObject(value)) return undefined;
  if (typeof value["delete"] === "string") return { deleted: value["delete"] };
  return isRecord(value["put"]) ? { record: value["put"] } : undefined;
}

/** The file is our own; this tells a line of another version, or of another kind of file. */
function isRecord(value: unknown): value is ResponseRecord {
  if (!isObject(value)) return false;
  const { owner, head, context, log } = value;
  return (
    typeof owner === "string" &&
    isObject(head) &&
    typeof head["id"] === "string" &&
    typeof head["createdAt"] === "number" &&
    isObject(head["echo"]) &&
    isObject(head["style"]) &&
    Array.isArray(context) &&
    Array.isArray(log)
  );
}

function absent(error: unknown): string {
  if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
  throw error;
}
