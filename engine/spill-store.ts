/**
 * The files of prefixes that were taken out of their slots: in a folder of their own that nobody else can read, each with
 * a digest of what was written, gone with the engine.
 *
 * Native code trusts such a file with its life, so a file is handed out only after its whole content has been found to be
 * what was written.
 */
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  statfsSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { EngineError } from "./errors.ts";
import { shareOfFree } from "./free-memory.ts";
import type { SealedFile, SpillOptions } from "./protocol.ts";
import type { SpillId } from "./scheduler/types.ts";

const PREFIX = "weft-spill-";
/** A file system in memory, where files cost no disk and leave no trace on one. */
const RAM_DISK = "/dev/shm";
/** Of what is free, the rest is for everybody else. */
const MOST_OF_FREE = 0.9;
/** Few enough to be in the processor's cache still when they are hashed. */
const READ_BYTES = 1 << 17;
/** Where nobody has said how much: of the memory that is free, and at most. */
const UNASKED = { share: 1 / 8, mostBytes: 8 * 1024 ** 3 };

/** Process numbers mean nothing in another container, which may use the same folder. */
const NAMESPACE = processNamespace();

/** Folders of this process: what else bears its number was left by another one. */
const ownFolders = new Set<string>();

/**
 * The files of an engine. Where nobody has said how much they may hold, an eighth of what is free; where nobody has said
 * either where they are, only in memory, and none where that cannot be.
 * @param inherited Files of an engine that is gone, for `adopt`.
 * @throws {EngineError} `invalid_request` when files that were asked for cannot be written.
 */
export function openSpillStore(
  { directory, bytes, model }: SpillOptions,
  inherited: readonly string[] = [],
): SpillStore | undefined {
  const from = { model, inherited };
  if (bytes !== undefined) return new SpillStore(directory ?? defaultDirectory(), bytes, from);
  if (directory !== undefined) return new SpillStore(directory, undefined, from);
  if (!existsSync(RAM_DISK)) return undefined;
  try {
    return new SpillStore(RAM_DISK, undefined, from);
  } catch (error) {
    if (error instanceof EngineError) return undefined;
    throw error;
  }
}

/** Whose place an engine takes. */
interface Predecessor {
  /** As in `SpillOptions`. */
  readonly model?: string | undefined;
  /** Files of an engine that is gone, for `adopt`. */
  readonly inherited?: readonly string[];
}

export class SpillStore {
  /** Most bytes of all files, inherited ones included: those asked for, or what the file system has. */
  readonly limitBytes: number;
  /** That which its folder is in, and whether this is memory. */
  readonly directory: string;
  readonly inMemory: boolean;
  readonly #folder: string;
  readonly #digests = new Map<SpillId, { readonly digest: string; readonly bytes: number }>();

  /** By the paths that they had. */
  readonly #inherited = new Map<string, string>();

  /**
   * Makes the folder, and removes what processes that are gone have left, but for `inherited`, and for what their successors
   * may still inherit.
   * @param bytes Undefined is a part of the memory that is free.
   * @throws {EngineError} `invalid_request` when files cannot be written there.
   */
  constructor(directory: string, bytes: number | undefined, from: Predecessor = {}) {
    this.directory = directory;
    this.inMemory = directory === RAM_DISK || directory.startsWith(`${RAM_DISK}/`);
    try {
      mkdirSync(directory, { recursive: true });
      const mark = from.model === undefined ? "" : `${markOf(from.model)}.`;
      const name = `${PREFIX}${NAMESPACE}-${serverPid()}-${process.pid}-${mark}`;
      this.#folder = mkdtempSync(join(directory, name));
      ownFolders.add(this.#folder);
      for (const path of from.inherited ?? []) this.#inherit(path);
      removeLeftovers(directory, mark);
      // They count in the limit, so that they are no less free than they were for the engine that has written them.
      const inheritedBytes = sizeOf([...this.#inherited.values()]);
      const { bavail, bsize } = statfsSync(directory);
      const most = Math.floor((bavail * bsize + inheritedBytes) * MOST_OF_FREE);
      const takenBytes = this.inMemory ? inheritedBytes : 0;
      this.limitBytes = Math.min(bytes ?? shareOfFree({ ...UNASKED, takenBytes }), most);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new EngineError(
        "invalid_request",
        `No prefixes can be kept in ${directory}: ${reason}. Set --spill-dir to another folder.`,
      );
    }
  }

  /** An empty file for the prefix. @returns Its path. @throws {Error} When it cannot be made. */
  create(id: SpillId): string {
    const path = this.#pathOf(id);
    closeSync(openSync(path, "wx", 0o600));
    return path;
  }

  /** Notes what has been written. @returns The bytes of the file. @throws {Error} When it cannot be read. */
  seal(id: SpillId): number {
    const content = digestOf(this.#pathOf(id));
    this.#digests.set(id, content);
    return content.bytes;
  }

  /** What is known of a file that is sealed. */
  sealed(id: SpillId): SealedFile | undefined {
    const written = this.#digests.get(id);
    return written && { path: this.#pathOf(id), ...written };
  }

  /** Takes an inherited file. @returns Whether it is there and is what was written. */
  adopt(id: SpillId, { path, bytes, digest }: SealedFile): boolean {
    const own = this.#inherited.get(path);
    this.#inherited.delete(path);
    if (own === undefined) return false;
    try {
      renameSync(own, this.#pathOf(id));
    } catch {
      return false;
    }
    this.#digests.set(id, { digest, bytes });
    if (this.verified(id) !== undefined) return true;
    this.drop(id);
    return false;
  }

  /** Removes the inherited files that have not been taken. */
  dropInherited(): void {
    try {
      for (const path of this.#inherited.values()) rmSync(path, { recursive: true, force: true });
    } catch {
      // They go with the folder.
    }
    this.#inherited.clear();
  }

  /** Its path, if its content is what was written; undefined if not. */
  verified(id: SpillId): string | undefined {
    const written = this.#digests.get(id);
    if (written === undefined) return undefined;
    try {
      const { digest, bytes } = digestOf(this.#pathOf(id), written.bytes);
      return digest === written.digest && bytes === written.bytes ? this.#pathOf(id) : undefined;
    } catch {
      return undefined;
    }
  }

  /** Does nothing for a file that is not there. */
  drop(id: SpillId): void {
    this.#digests.delete(id);
    rmSync(this.#pathOf(id), { force: true });
  }

  /** The one file in which cells come from another process of this engine, at once to be read. */
  get transferPath(): string {
    return join(this.#folder, "transfer");
  }

  /** Empty. @returns Its path. @throws {Error} When it cannot be made. */
  createTransfer(): string {
    this.dropTransfer();
    closeSync(openSync(this.transferPath, "wx", 0o600));
    return this.transferPath;
  }

  /** Does nothing where there is none. */
  dropTransfer(): void {
    rmSync(this.transferPath, { force: true });
  }

  /** Removes everything. */
  close(): void {
    this.#digests.clear();
    rmSync(this.#folder, { recursive: true, force: true });
    ownFolders.delete(this.#folder);
  }

  /** Only a file of another engine's folder beside this one. */
  #inherit(path: string): void {
    const folder = dirname(path);
    if (dirname(folder) !== dirname(this.#folder)) return;
    if (!basename(folder).startsWith(PREFIX)) return;
    const own = join(this.#folder, `inherited-${this.#inherited.size}`);
    try {
      renameSync(path, own);
      this.#inherited.set(path, own);
    } catch {
      // It is gone, and what was in it is computed again.
    }
  }

  #pathOf(id: SpillId): string {
    return join(this.#folder, String(id));
  }
}

function defaultDirectory(): string {
  return existsSync(RAM_DISK) ? RAM_DISK : tmpdir();
}

function processNamespace(): string {
  try {
    return /\d+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0";
  } catch {
    return "0";
  }
}

/** An engine process that was forked ends with the process that has forked it, if a little later. */
function serverPid(): number {
  return process.send === undefined ? process.pid : process.ppid;
}

/** Of a model's name, which may be anything. */
function markOf(model: string): string {
  return createHash("sha256").update(model).digest("hex").slice(0, 12);
}

/**
 * Folders whose server is gone, and those of the engines before this one; those of other users and other containers stay.
 * What another model's engine has left, its next one may still inherit, and removes.
 */
function removeLeftovers(directory: string, mark: string): void {
  const pattern = new RegExp(`^${PREFIX}${NAMESPACE}-(\\d+)-(\\d+)-(\\w+\\.)?\\w+$`);
  for (const name of readdirSync(directory)) {
    const [, server, engine, its = ""] = pattern.exec(name) ?? [];
    const path = join(directory, name);
    if (server === undefined || ownFolders.has(path)) continue;
    const runs = Number(engine) !== process.pid && isAlive(Number(engine));
    if (isAlive(Number(server)) && (runs || its !== mark || Number(server) !== serverPid())) continue;
    try {
      // Never through a link: whoever may write to the directory could lead it anywhere.
      if (lstatSync(path).isDirectory()) rmSync(path, { recursive: true, force: true });
    } catch {
      // Somebody else's, or just removed by another engine.
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

function sizeOf(files: readonly string[]): number {
  let bytes = 0;
  for (const file of files) bytes += statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  return bytes;
}

/** @param mostBytes A file with more is not read to its end. */
function digestOf(path: string, mostBytes = Infinity): { digest: string; bytes: number } {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  const file = openSync(path, "r");
  let bytes = 0;
  try {
    while (bytes <= mostBytes) {
      const read = readSync(file, buffer);
      if (read === 0) break;
      hash.update(buffer.subarray(0, read));
      bytes += read;
    }
  } finally {
    closeSync(file);
  }
  return { digest: hash.digest("hex"), bytes };
}
