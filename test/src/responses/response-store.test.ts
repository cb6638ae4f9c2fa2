/** What is kept, how much of it, and that it is there again after a restart. */
import { appendFile, mkdtemp, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { openResponses } from "../../../src/cli/open-responses.ts";
import { ConfigError } from "../../../src/config/config-error.ts";
import { recordJson } from "../../../src/responses/record.ts";
import type { ResponseRecord } from "../../../src/responses/record.ts";
import { ResponseFile } from "../../../src/responses/response-file.ts";
import { ResponseStore } from "../../../src/responses/response-store.ts";
import { Responses } from "../../../src/responses/responses.ts";
import { createTestApp, MODEL_ID } from "../../support/test-app.ts";

const DAY = 24 * 3600;

const record = (id: string, text = "x", owner = "a"): ResponseRecord => ({
  owner,
  head: { id, createdAt: 100, background: false, echo: {}, style: { summary: false, packed: false } },
  context: [],
  log: [{ kind: "text", text }],
});
const sizeOf = (one: ResponseRecord): number => JSON.stringify(one).length;

describe("the store", () => {
  it("forgets the longest unused first", () => {
    const store = new ResponseStore({ responses: 2, size: 1e6 }, () => 100);
    store.put(record("resp_1"));
    store.put(record("resp_2"));
    expect(store.get("resp_1", "a")).toEqual(record("resp_1"));
    store.put(record("resp_3"));
    expect(store.get("resp_2", "a")).toBeUndefined();
    expect([store.get("resp_1", "a"), store.get("resp_3", "a")]).toEqual([
      record("resp_1"),
      record("resp_3"),
    ]);
  });

  it("takes nothing that is larger than itself, and forgets nothing for it", () => {
    const store = new ResponseStore({ responses: 9, size: 300 }, () => 100);
    store.put(record("resp_1"));
    store.put(record("resp_2", "x".repeat(300)));
    expect([store.count, store.get("resp_2", "a")]).toEqual([1, undefined]);
  });

  it("shows a response to its owner, for thirty days", () => {
    let now = 100;
    const store = new ResponseStore({ responses: 9, size: 1e6 }, () => now);
    store.put(record("resp_1"));
    expect(store.get("resp_1", "b")).toBeUndefined();
    expect(store.delete("resp_1", "b")).toBe(false);
    now += 30 * DAY;
    expect(store.get("resp_1", "a")).toBeDefined();
    now += 1;
    expect(store.get("resp_1", "a")).toBeUndefined();
    expect([store.count, store.size]).toEqual([0, 0]);
  });

  it("row 125: never holds more than it may, and counts it right", () => {
    const change = fc.record({ id: fc.nat(12), length: fc.nat(120), drop: fc.boolean() });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
        const store = new ResponseStore({ responses: 5, size: 900 }, () => 100);
        for (const { id, length, drop } of changes) {
          if (drop) store.delete(`resp_${id}`, "a");
          else store.put(record(`resp_${id}`, "x".repeat(length)));
          const held = [...store.records()];
          expect(store.count).toBe(held.length);
          expect(store.size).toBe(held.reduce((sum, one) => sum + sizeOf(one), 0));
          expect(store.count <= 5 && store.size <= 900).toBe(true);
        }
      }),
    );
  });
});

it("row 125: of a hundred thousand responses it holds as many as it may, the last ones", () => {
  const store = new ResponseStore({ responses: 100, size: 1e6 }, () => 100);
  for (let i = 0; i < 100_000; i++) store.put(record(`resp_${i}`));
  const held = [...store.records()].map(({ head }) => head.id);
  expect(held).toEqual(Array.from({ length: 100 }, (_, i) => `resp_${99_900 + i}`));
});

describe("the file", () => {
  const folders: string[] = [];

  afterEach(async () => {
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
  });

  async function newPath(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), "weft-responses-"));
    folders.push(folder);
    return join(folder, "responses.jsonl");
  }

  async function open(path: string, problems: string[] = []) {
    const file = new ResponseFile({ path, onProblem: (_error, message) => problems.push(message) });
    const store = new ResponseStore({ responses: 3, size: 1e6 }, () => 100, file);
    store.restore(await file.read());
    await file.start(store);
    return { file, store };
  }

  const ids = (store: ResponseStore): string[] => [...store.records()].map(({ head }) => head.id);

  it("brings back what was stored, and not what was deleted or forgotten", async () => {
    const path = await newPath();
    const first = await open(path);
    for (const id of ["resp_1", "resp_2", "resp_3", "resp_4"]) first.store.put(record(id, `of ${id}`));
    first.store.delete("resp_3", "a");
    await first.file.flush();
    const second = await open(path);
    expect(ids(second.store)).toEqual(["resp_2", "resp_4"]);
    expect(second.store.get("resp_4", "a")).toEqual(record("resp_4", "of resp_4"));
  });

  it("knows after a restart which was used last", async () => {
    const path = await newPath();
    const first = await open(path);
    for (const id of ["resp_1", "resp_2", "resp_3", "resp_1"]) first.store.put(record(id));
    await first.file.flush();
    const second = await open(path);
    second.store.put(record("resp_4"));
    expect(ids(second.store)).toEqual(["resp_3", "resp_1", "resp_4"]);
    await second.file.flush();
  });

  it("row 126: knows after a kill that what was made in the background has failed, and how it ended otherwise", async () => {
    const path = await newPath();
    const first = await open(path);
    const { engine, post } = createTestApp({ responses: new Responses(first.store) });
    engine.script = { kind: "accept" };
    const begin = async (): Promise<string> => {
      const reply = await post("/v1/responses", { model: MODEL_ID, input: "hi", background: true });
      return ((await reply.json()) as { id: string }).id;
    };
    const known = [await begin(), await begin()];
    expect((await post(`/v1/responses/${known[1]}/cancel`, {})).status).toBe(200);
    await first.file.flush();
    const second = await open(path);
    expect([...second.store.records()].map(recordJson)).toMatchObject([
      { id: known[0], status: "failed", error: { message: "The server ended before this response did." } },
      { id: known[1], status: "cancelled", error: null },
    ]);
  });

  it("forgets what has grown too large for it", async () => {
    const path = await newPath();
    const file = new ResponseFile({ path, onProblem: () => undefined });
    const store = new ResponseStore({ responses: 3, size: 500 }, () => 100, file);
    await file.start(store);
    store.put(record("resp_1"));
    store.put(record("resp_1", "x".repeat(500)));
    await file.flush();
    expect(ids((await open(path)).store)).toEqual([]);
  });

  it("is for the eyes of its owner", async () => {
    const path = await newPath();
    await open(path);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  it("holds only what counts after it is opened again", async () => {
    const path = await newPath();
    const { file, store } = await open(path);
    store.put(record("resp_1"));
    store.put(record("resp_2"));
    store.delete("resp_1", "a");
    await file.flush();
    expect((await readFile(path, "utf8")).trim().split("\n")).toHaveLength(3);
    await open(path);
    expect((await readFile(path, "utf8")).trim().split("\n")).toEqual([
      JSON.stringify({ put: record("resp_2") }),
    ]);
  });

  it("stays bounded while it is written to", async () => {
    const path = await newPath();
    const { file, store } = await open(path);
    for (let i = 0; i < 40; i++) {
      store.put(record("resp_1", "x".repeat(100_000)));
      await file.flush();
    }
    expect((await stat(path)).size).toBeLessThan(1.3e6);
    expect(ids((await open(path)).store)).toEqual(["resp_1"]);
  });

  it("is written in pieces, in between which others are served", async () => {
    const path = await newPath();
    const text = "x".repeat(10_000);
    let asked = 0;
    const records = Array.from({ length: 400 }, (_, i) => ({
      ...record(`resp_${i}`),
      get context() {
        asked += text.length;
        return [{ id: "m", text }] as never[];
      },
    }));
    let most = 0;
    let before = 0;
    const look = (): void => {
      most = Math.max(most, asked - before);
      before = asked;
      timer = setImmediate(look);
    };
    let timer = setImmediate(look);
    const file = new ResponseFile({ path, onProblem: () => undefined });
    await file.start({ size: 4e6, records: () => records });
    clearImmediate(timer);
    expect(asked).toBe(4e6);
    expect(Math.max(most, asked - before)).toBeLessThan(300_000);
    expect((await file.read()).map(({ head }) => head.id)).toEqual(records.map(({ head }) => head.id));
  });

  it("has what changes while it is written anew", async () => {
    const path = await newPath();
    const { file, store } = await open(path);
    let onWrite = (): void => undefined;
    const long = {
      ...record("resp_2", "x".repeat(400_000)),
      get context() {
        onWrite();
        return [];
      },
    };
    store.put(record("resp_1"));
    for (let i = 0; i < 4; i++) store.put(long);
    const changed = new Promise<void>((resolve) => {
      onWrite = () => {
        onWrite = () => undefined;
        store.delete("resp_1", "a");
        store.put(record("resp_3"));
        resolve();
      };
    });
    await Promise.all([changed, file.flush()]);
    expect((await stat(path)).size).toBeLessThan(500_000);
    expect(ids((await open(path)).store)).toEqual(["resp_2", "resp_3"]);
  });

  it("row 129: leaves out only what cannot be read, as of a later version, and keeps the file", async () => {
    const path = await newPath();
    const { file, store } = await open(path);
    store.put(record("resp_1"));
    await file.flush();
    await appendFile(path, 'junk\n{"put":{"owner":5}}\n');
    await appendFile(path, JSON.stringify({ put: record("resp_2") }).slice(0, 50));
    const problems: string[] = [];
    const before = await readFile(path);
    const again = await open(path, problems);
    expect(await readFile(`${path}.old`)).toEqual(before);
    expect((await stat(`${path}.old`)).mode & 0o777).toBe(0o600);
    expect(ids(again.store)).toEqual(["resp_1"]);
    expect(problems).toEqual([
      "some stored responses could not be read and are left out; the file is kept as .old",
    ]);
    again.store.put(record("resp_3"));
    await again.file.flush();
    expect(ids((await open(path)).store)).toEqual(["resp_1", "resp_3"]);
  });

  it("says so when it cannot be written, and the store goes on", async () => {
    const path = await newPath();
    const problems: string[] = [];
    const { file, store } = await open(path, problems);
    await rm(join(path, ".."), { recursive: true });
    folders.length = 0;
    store.put(record("resp_1"));
    await file.flush();
    expect(new Set(problems)).toEqual(new Set(["stored responses are not written to their file"]));
    expect(ids(store)).toEqual(["resp_1"]);
  });

  it("row 103: is written when a full disk has room again, with all that had none and behind half a line", async () => {
    const path = await newPath();
    const problems: string[] = [];
    const { file, store } = await open(path, problems);
    store.put(record("resp_1"));
    await file.flush();
    await rename(path, `${path}.away`);
    await symlink("/dev/full", path);
    for (const id of ["resp_2", "resp_3"]) {
      store.put(record(id));
      await file.flush();
    }
    expect(new Set(problems)).toEqual(new Set(["stored responses are not written to their file"]));
    await rename(`${path}.away`, path);
    await appendFile(path, '{"put":{"own');
    store.delete("resp_1", "a");
    await file.flush();
    expect(ids((await open(path)).store)).toEqual(["resp_2", "resp_3"]);
  });

  it("row 103: on a full disk does not keep a server from starting, and stays what it was until there is room", async () => {
    const path = await newPath();
    const first = await open(path);
    first.store.put(record("resp_1"));
    await first.file.flush();
    await appendFile(path, '{"put":{"own');
    const before = await readFile(path, "utf8");
    await symlink("/dev/full", `${path}.new`);
    const problems: string[] = [];
    const { file, store } = await open(path, problems);
    expect(problems).toContain("stored responses are not written to their file");
    expect(ids(store)).toEqual(["resp_1"]);
    expect(await readFile(path, "utf8")).toBe(before);
    store.put(record("resp_2"));
    await file.flush();
    expect(ids((await open(path)).store)).toEqual(["resp_1", "resp_2"]);
  });

  it("is opened for a serving process, or refused before it starts", async () => {
    const log = { debug: () => undefined, info: () => {}, warn: () => {}, error: () => {} };
    const options = { log, epochSeconds: () => 100 };
    const path = await newPath();
    const opened = await openResponses(path, options);
    opened.responses.store(record("resp_1"));
    await opened.close();
    const again = await openResponses(path, options);
    const found = again.responses.find("resp_1", "a");
    expect(found && recordJson(found)).toMatchObject({
      id: "resp_1",
      output: [{ content: [{ text: "x" }] }],
    });
    await writeFile(`${path}-file`, "");
    await expect(openResponses(`${path}-file/x`, options)).rejects.toThrow(ConfigError);
  });
});
