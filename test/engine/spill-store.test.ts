/** The files of prefixes: who can read them, what is handed out, and what is left of them. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir, totalmem } from "node:os";
import { basename, dirname, join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SpillStore, openSpillStore } from "../../engine/spill-store.ts";

/** More than a process can have. */
const NOBODY = 99_999_999;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "weft-store-test-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const open = (bytes = 1e6): SpillStore => new SpillStore(directory, bytes);
const mode = (path: string): number => statSync(path).mode & 0o777;

test("folder and files are for this user alone, whatever writes into them, and go at the end", () => {
  const before = process.umask(0);
  try {
    const store = open();
    const [folder] = readdirSync(directory);
    const file = store.create(1);
    writeFileSync(file, "cells");
    expect([mode(join(directory, folder ?? "")), mode(file)]).toEqual([0o700, 0o600]);
    expect(store.seal(1)).toBe(5);
    expect(store.verified(1)).toBe(file);
    store.close();
    expect(readdirSync(directory)).toEqual([]);
  } finally {
    process.umask(before);
  }
});

test("a file is handed out while it is what was written, and not after any change", () => {
  type Change = "none" | "flip" | "cut" | "longer" | "gone" | "folder" | "rewritten";
  const change = fc.constantFrom<Change>("none", "flip", "cut", "longer", "gone", "folder", "rewritten");
  const content = fc.uint8Array({ minLength: 1, maxLength: 5000 });
  const store = open();
  let id = 0;
  fc.assert(
    fc.property(content, change, fc.nat(), (bytes, kind, at) => {
      const file = store.create(++id);
      expect(store.verified(id)).toBeUndefined();
      writeFileSync(file, bytes);
      expect(store.seal(id)).toBe(bytes.length);
      const changed = Uint8Array.from(bytes);
      changed[at % bytes.length] = (changed[at % bytes.length] ?? 0) ^ (1 << (at % 8));
      if (kind === "flip") writeFileSync(file, changed);
      if (kind === "cut") truncateSync(file, at % bytes.length);
      if (kind === "longer") truncateSync(file, bytes.length + 1 + (at % 10));
      if (kind === "rewritten") writeFileSync(file, bytes);
      if (kind === "gone" || kind === "folder") rmSync(file);
      if (kind === "folder") mkdirSync(file);
      const same = kind === "none" || kind === "rewritten";
      expect(store.verified(id)).toBe(same ? file : undefined);
      if (kind === "folder") rmSync(file, { recursive: true });
      store.drop(id);
      expect([existsSync(file), store.verified(id)]).toEqual([false, undefined]);
      store.drop(id);
    }),
    { numRuns: 300 },
  );
  store.close();
});

test("a file larger than what is read at a time is looked at as a whole", () => {
  const store = open(1e8);
  const file = store.create(1);
  const bytes = new Uint8Array(3_000_001).fill(7);
  writeFileSync(file, bytes);
  expect(store.seal(1)).toBe(bytes.length);
  expect(store.verified(1)).toBe(file);
  bytes[3_000_000] = 8;
  writeFileSync(file, bytes);
  expect(store.verified(1)).toBeUndefined();
  store.close();
});

test("what a killed process has left goes when the next one starts, and nothing else does", () => {
  const { pid, ppid } = process;
  const probe = open();
  const [, namespace = ""] = /^weft-spill-(\d+)-/.exec(readdirSync(directory).at(0) ?? "") ?? [];
  probe.close();
  const own = `weft-spill-${namespace}`;
  const crashed = join(directory, `${own}-${ppid}-${NOBODY}-abc123`);
  // Its engine has not noticed yet.
  const orphaned = join(directory, `${own}-${NOBODY}-${ppid}-abc123`);
  const reborn = join(directory, `${own}-${ppid}-${pid}-abc123`);
  const living = join(directory, `${own}-${ppid}-${ppid}-abc123`);
  const others = [
    // Of a container whose processes are not seen from here.
    `weft-spill-${namespace}1-${NOBODY}-${NOBODY}-abc123`,
    "weft-spill-notes",
    "weft-spill-1-1x-a",
    "something",
    `old-weft-spill-${NOBODY}-1-a`,
  ];
  for (const folder of [crashed, orphaned, reborn, living]) {
    mkdirSync(folder);
    writeFileSync(join(folder, "1"), "cells");
  }
  for (const name of others) mkdirSync(join(directory, name));
  const elsewhere = mkdtempSync(join(tmpdir(), "weft-store-elsewhere-"));
  writeFileSync(join(elsewhere, "kept"), "");
  symlinkSync(elsewhere, join(directory, `${own}-${NOBODY}-${NOBODY}-link`));
  const first = open();
  const second = open();
  const left = readdirSync(directory);
  // The engine's number in the last one is this process's own now, and it has made no such folder.
  for (const gone of [crashed, orphaned, reborn]) expect(left).not.toContain(basename(gone));
  expect(left).toEqual(expect.arrayContaining([basename(living), ...others]));
  expect(readdirSync(elsewhere)).toEqual(["kept"]);
  // Two engines in one process leave each other's files alone.
  expect(left.filter((name) => name.includes(`-${pid}-`))).toHaveLength(2);
  writeFileSync(first.create(1), "a");
  second.close();
  expect(first.seal(1)).toBe(1);
  first.close();
  rmSync(elsewhere, { recursive: true });
});

test("no more bytes are promised than the file system has", () => {
  const store = open(Number.MAX_SAFE_INTEGER);
  expect(store.limitBytes).toBeLessThan(Number.MAX_SAFE_INTEGER);
  expect(store.limitBytes).toBeGreaterThan(0);
  store.close();
});

test("what the engines of several models have left waits for the next one of the same model, and goes with that", () => {
  const left = ["a", "b"].map((model) => {
    const store = new SpillStore(directory, 1000, { model });
    const path = store.create(1);
    writeFileSync(path, `cells of ${model}`);
    store.seal(1);
    // As if its process were gone, and the server were not.
    const folder = dirname(path);
    const dead = folder.replace(new RegExp(`-${process.pid}-([^-]+)$`), `-${NOBODY}-$1`);
    expect(dead).not.toBe(folder);
    renameSync(folder, dead);
    const sealed = store.sealed(1);
    if (sealed === undefined) throw new Error("it is sealed");
    return { folder: dead, file: { ...sealed, path: join(dead, "1") } };
  });
  const next = ["a", "b"].map((model, i) => {
    const { folder, file } = left[i] ?? expect.unreachable();
    const store = new SpillStore(directory, 1000, { model, inherited: [file.path] });
    expect([store.adopt(1, file), existsSync(folder)]).toEqual([true, false]);
    return store;
  });
  for (const store of next) store.close();
  expect(readdirSync(directory)).toEqual([]);
});

/** Without blocks, so that it takes nothing of what is free. */
const HUGE = 2 ** 42;
function leaveHuge(store: SpillStore): string {
  const path = store.create(1);
  truncateSync(path, HUGE);
  return path;
}

test("what is inherited counts as room, as it did for who has written it", () => {
  const before = open();
  const next = new SpillStore(directory, Number.MAX_SAFE_INTEGER, { inherited: [leaveHuge(before)] });
  expect(next.limitBytes).toBeGreaterThanOrEqual(HUGE * 0.9);
  next.close();
  const asked = new SpillStore(directory, 1000, { inherited: [leaveHuge(open())] });
  expect(asked.limitBytes).toBe(1000);
  asked.close();
});

test.runIf(existsSync("/dev/shm"))("what is inherited in memory counts as memory that is free", () => {
  const inMemory = mkdtempSync("/dev/shm/weft-store-test-");
  try {
    const before = new SpillStore(inMemory, 1000);
    const next = new SpillStore(inMemory, undefined, { inherited: [leaveHuge(before)] });
    expect(next.limitBytes).toBe(8 * 1024 ** 3);
    next.close();
  } finally {
    rmSync(inMemory, { recursive: true, force: true });
  }
});

test("what is inherited and not taken goes when it is told to", () => {
  const before = open();
  const paths = [1, 2].map((id) => {
    const path = before.create(id);
    writeFileSync(path, "cells");
    before.seal(id);
    return path;
  });
  const next = new SpillStore(directory, 1000, { inherited: paths });
  const [first] = [before.sealed(1)];
  expect(first !== undefined && next.adopt(7, first)).toBe(true);
  next.dropInherited();
  const [folder] = [dirname(next.verified(7) ?? "")];
  expect(readdirSync(folder)).toEqual(["7"]);
  next.close();
  before.close();
});

test("a folder that cannot be used is refused with what to do", () => {
  writeFileSync(join(directory, "file"), "");
  const refused = (): SpillStore => new SpillStore(join(directory, "file"), 1000);
  expect(refused).toThrow(/No prefixes can be kept in .*file: .*Set --spill-dir/);
});

test("where no folder is named, it is one of this machine's temporary ones", () => {
  const store = openSpillStore({ directory: undefined, bytes: 1000 });
  if (store === undefined) throw new Error("there is a temporary folder");
  const file = store.create(1);
  expect(file.startsWith("/dev/shm/") || file.startsWith(tmpdir())).toBe(true);
  store.close();
  expect(existsSync(file)).toBe(false);
});

test("where nobody has said how much, it is an eighth of the free memory at most", () => {
  const store = openSpillStore({ directory, bytes: undefined });
  expect(store?.limitBytes).toBeGreaterThan(0);
  expect(store?.limitBytes).toBeLessThanOrEqual(totalmem() / 8);
  expect(store?.limitBytes).toBeLessThanOrEqual(8 * 1024 ** 3);
  store?.close();
});

test("where nobody has said anything, files are in memory or not at all", () => {
  const store = openSpillStore({ directory: undefined, bytes: undefined });
  expect(store === undefined).toBe(!existsSync("/dev/shm"));
  if (store === undefined) return;
  expect(dirname(dirname(store.create(1)))).toBe("/dev/shm");
  store.close();
});
