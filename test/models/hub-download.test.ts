/** Models from a hub that redirects, refuses, lies or is cut off: rows 103 to 108 of the fault matrix, against a hub on this machine. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { RequestListener, ServerResponse } from "node:http";
import { basename, dirname, join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { fetchPublished } from "../../models/download.ts";
import { packageRoot } from "../../models/package-root.ts";
import { describeFailure, ExitCode } from "../../src/cli/exit-codes.ts";
import { HUB_MODEL, HUB_TOKEN, redirecting, serving, startTestHub } from "../support/hub.ts";
import type { TestHub } from "../support/hub.ts";

const NAME = "hf:some/repo/m.gguf";
const FOLDER = "some--repo--m.gguf";
const FILE_PATH = "/some/repo/resolve/main/m.gguf";

const hubs: TestHub[] = [];
afterEach(() => {
  for (const hub of hubs.splice(0)) hub.close();
});
async function startHub(answers: Parameters<typeof startTestHub>[0] = {}): Promise<TestHub> {
  const hub = await startTestHub(answers);
  hubs.push(hub);
  return hub;
}

/** What a user sees of a download that fails. */
async function failureOf(hub: TestHub, name = NAME): Promise<{ code: ExitCode; line: string | undefined }> {
  return await hub.fetch(name).then(
    (path) => expect.fail(`it came: ${path}`),
    (error: unknown) => describeFailure(error),
  );
}

const isModel = (path: string): boolean => readFileSync(path).equals(HUB_MODEL);

describe("the hub's token", () => {
  test("row 107: goes to the hub and to no host that the hub points to", async () => {
    const hub = await startHub();
    expect(isModel(await hub.fetch(NAME))).toBe(true);
    expect(hub.asked).toEqual([
      { at: "hub", path: FILE_PATH, range: undefined, authorization: `Bearer ${HUB_TOKEN}` },
      { at: "storage", path: "/blob?signed=1", range: undefined, authorization: undefined },
    ]);
    expect(readdirSync(hub.directory)).toEqual([FOLDER]);
    expect(readdirSync(join(hub.directory, FOLDER))).toEqual(["m.gguf"]);
  });

  test("row 107: stays there when a connection breaks, addresses expire and downloads go on", async () => {
    const troubles: RequestListener[] = [
      serving((response, body) => response.write(body.subarray(0, 100_000), () => response.destroy())),
      (_request, response) => response.writeHead(403).end("the signature has expired"),
      serving((response, body) => response.write(body.subarray(0, 100_000), () => response.destroy())),
    ];
    const hub = await startHub({
      storage: (request, response) => (troubles.shift() ?? serving())(request, response),
    });
    expect(isModel(await hub.fetch(NAME))).toBe(true);
    expect(hub.asked.map(({ at, authorization }) => [at, authorization])).toEqual(
      [1, 2, 3, 4].flatMap(() => [
        ["hub", `Bearer ${HUB_TOKEN}`],
        ["storage", undefined],
      ]),
    );
  });

  test("row 107: follows where the hub moves a repository within itself, and not where it sends a list of files", async () => {
    const hub = await startHub({
      hub: (request, response, storage) => {
        if (request.url?.startsWith("/v2/") === true) {
          return response.writeHead(307, { location: `${storage}/list` }).end();
        }
        if (request.url !== "/new/name.gguf")
          return response.writeHead(308, { location: "/new/name.gguf" }).end();
        return redirecting(request, response, storage);
      },
      storage: (request, response) =>
        request.url === "/list"
          ? response.end(JSON.stringify({ ggufFile: { rfilename: "a.gguf" } }))
          : serving()(request, response),
    });
    expect(isModel(await hub.fetch("hf:some/repo:Q4_K_M"))).toBe(true);
    expect(hub.asked.map(({ path, authorization }) => [path, authorization])).toEqual([
      ["/v2/some/repo/manifests/Q4_K_M", `Bearer ${HUB_TOKEN}`],
      ["/list", undefined],
      ["/some/repo/resolve/main/a.gguf", `Bearer ${HUB_TOKEN}`],
      ["/new/name.gguf", `Bearer ${HUB_TOKEN}`],
      ["/blob?signed=1", undefined],
    ]);
  });

  test("is tried without where the hub does not accept it, so that public models still come", async () => {
    const hub = await startHub({
      hub: (request, response, storage) =>
        request.headers.authorization === undefined
          ? redirecting(request, response, storage)
          : response.writeHead(401).end(),
    });
    expect(isModel(await hub.fetch(NAME))).toBe(true);
  });

  test("is found where the hub's own tools leave it", async () => {
    const hub = await startHub();
    delete hub.env["HF_TOKEN"];
    hub.env["HF_HOME"] = hub.env["WEFT_CACHE"] ?? "";
    writeFileSync(join(hub.env["HF_HOME"], "token"), "hf_from_file\n");
    expect(isModel(await hub.fetch(NAME))).toBe(true);
    expect(hub.asked[0]?.authorization).toBe("Bearer hf_from_file");
  });
});

describe("a hub that answers", () => {
  const page = (hub: TestHub): string => `${hub.env["HF_ENDPOINT"]}/some/repo`;

  test.each([
    [401, ExitCode.failed, () => "Check the name; for a private or gated model set HF_TOKEN."],
    [
      403,
      ExitCode.failed,
      (hub: TestHub) => `If the model is gated, accept its licence on ${page(hub)} and set HF_TOKEN.`,
    ],
    [404, ExitCode.modelNotFound, (hub: TestHub) => `Check the name on ${page(hub)}.`],
  ])("row 107: %i is told of, with the way out", async (status, code, advice) => {
    const hub = await startHub({ hub: (_request, response) => response.writeHead(status).end() });
    hub.env["HF_TOKEN"] = "";
    expect(await failureOf(hub)).toEqual({
      code,
      line: `Cannot fetch ${NAME}: the hub answers ${status}. ${advice(hub)}`,
    });
    expect(hub.asked).toHaveLength(1);
    expect(readdirSync(hub.directory)).toEqual([`${FOLDER}.part`]);
  });

  test("row 107: tells of a model of the catalogue what to do, too", async () => {
    const hub = await startHub({ hub: (_request, response) => response.writeHead(404).end() });
    const source = {
      kind: "published" as const,
      fileName: "m.gguf",
      sha256: "",
      sizeBytes: 1,
      huggingFace: NAME,
      wheel: undefined,
    };
    const { directory, env } = hub;
    const reporter = { note: () => undefined, progress: () => undefined };
    const fetched = fetchPublished("tiny", source, { directory, env, reporter, offline: false });
    await expect(fetched).rejects.toThrow(
      `Cannot fetch tiny (the hub answers 404). Check the name on ${page(hub)}, or download ${NAME} elsewhere and give its path.`,
    );
  });

  test.each([
    [
      401,
      (hub: TestHub) =>
        `Either the token (HF_TOKEN, or that of \`hf auth login\`) is wrong or expired, or the name is wrong: look at ${page(hub)}.`,
    ],
    [
      403,
      (hub: TestHub) =>
        `If the model is gated, accept its licence on ${page(hub)} as its owner: the token (HF_TOKEN, or that of \`hf auth login\`) must be allowed to read it.`,
    ],
  ])("row 107: %i to a token is told of as such", async (status, advice) => {
    const hub = await startHub({ hub: (_request, response) => response.writeHead(status).end() });
    const { line } = await failureOf(hub);
    expect(line).toBe(`Cannot fetch ${NAME}: the hub answers ${status}. ${advice(hub)}`);
    expect(line).not.toContain(HUB_TOKEN);
  });

  test.each([
    [{ "retry-after": "3" }, 3000],
    [{ ratelimit: '"resolvers";r=0;t=7' }, 7000],
  ])("row 107: 429 is asked again when it says so, in words: %j", async (headers, waitMs) => {
    let refusals = 2;
    const hub = await startHub({
      hub: (request, response, storage) =>
        refusals-- > 0 ? response.writeHead(429, headers).end() : redirecting(request, response, storage),
    });
    expect(isModel(await hub.fetch(NAME))).toBe(true);
    expect(hub.waits).toEqual([waitMs, waitMs]);
    expect(hub.notes).toContain(
      `${NAME}: the hub answers 429, too many requests; asking again in ${waitMs / 1000} s`,
    );
  });

  test("row 107: 429 for ever, or for an hour, is given up", async () => {
    let after = "2";
    const hub = await startHub({
      hub: (_request, response) => response.writeHead(429, { "retry-after": after }).end(),
    });
    const told = `Cannot fetch ${NAME}: the hub answers 429, too many requests. Try again in `;
    expect(await failureOf(hub)).toEqual({ code: ExitCode.failed, line: `${told}2 s.` });
    expect(hub.waits).toEqual([2000, 2000, 2000, 2000]);
    after = "3600";
    hub.env["HF_TOKEN"] = "";
    expect((await failureOf(hub)).line).toBe(`${told}3600 s; it allows more to those who set HF_TOKEN.`);
    expect(hub.waits).toHaveLength(4);
  });

  test("row 107: 500 is asked again after growing pauses, and given up in the end", async () => {
    let failures = 2;
    const hub = await startHub({
      hub: (request, response, storage) =>
        failures-- > 0 ? response.writeHead(500).end() : redirecting(request, response, storage),
    });
    failures = Infinity;
    expect(await failureOf(hub)).toEqual({
      code: ExitCode.failed,
      line: `Cannot fetch ${NAME}: the hub answers 500. The trouble is on its side; try again later.`,
    });
    expect(hub.waits.splice(0)).toEqual([500, 1000, 2000, 4000]);
    failures = 2;
    expect(isModel(await hub.fetch(NAME))).toBe(true);
    expect(hub.waits).toEqual([500, 1000]);
  });

  test.each([
    ["file:///etc/passwd", 'the hub redirects to "file:///etc/passwd", which is no http: address'],
    [FILE_PATH, "the hub redirects more than 10 times"],
  ])("row 107: a redirect that leads nowhere, %s", async (location, reason) => {
    const hub = await startHub({ hub: (_request, response) => response.writeHead(302, { location }).end() });
    expect((await failureOf(hub)).line).toContain(`Cannot fetch ${NAME}: ${reason}. `);
  });

  test("row 107: with a storage that refuses says which storage", async () => {
    const hub = await startHub({ storage: (_request, response) => response.writeHead(503).end() });
    expect((await failureOf(hub)).line).toMatch(
      /: the storage that the hub points to, 127\.0\.0\.1:\d+, answers 503\. Try again later\.$/,
    );
  });
});

describe("what comes", () => {
  test.each([
    ["a page", Buffer.from("<html>Please log in.</html>")],
    ["half a model", HUB_MODEL.subarray(0, 100_000)],
  ])("row 107: %s in place of a model is not kept", async (_name, body) => {
    const hub = await startHub({ hub: (_request, response) => response.end(body) });
    expect((await failureOf(hub)).line).toMatch(
      new RegExp(`^What was fetched for ${NAME} is no model and was deleted: `),
    );
    expect(readdirSync(hub.directory)).toEqual([]);
  });

  test("row 104: another file than the hub has promised is deleted", async () => {
    const forged = Buffer.from(HUB_MODEL).fill(1, 1_000_000, 1_000_010);
    const hub = await startHub({ storage: serving(undefined, forged) });
    expect((await failureOf(hub)).line).toMatch(
      /: what came is not the file it should be \(sha256 [0-9a-f]{64}\) and was deleted\. Try again\.$/,
    );
    expect(existsSync(join(hub.directory, `${FOLDER}.part`, "m.gguf.partial"))).toBe(false);
  });

  test("row 107: of the wrong length is no model", async () => {
    const hub = await startHub({ storage: serving(undefined, HUB_MODEL.subarray(0, 5000)) });
    expect((await failureOf(hub)).line).toMatch(
      /: 5000 of 2068288 bytes came\. Check the network and try again\.$/,
    );
    expect(readdirSync(join(hub.directory, `${FOLDER}.part`)).sort()).toEqual([
      "m.gguf.partial",
      "m.gguf.partial.version",
    ]);
  });

  /** Connections that break each time so many bytes more have come, as often as asked. */
  function breaking(stepBytes: number, times: number) {
    let connection: ServerResponse | undefined;
    let next = stepBytes;
    return {
      send: (response: ServerResponse, body: Buffer): void => {
        if (times === 0) return void response.end(body);
        next = HUB_MODEL.length - body.length + stepBytes;
        connection = response;
        response.write(body.subarray(0, stepBytes));
      },
      onProgress: (doneBytes: number): void => {
        if (times === 0 || doneBytes < next) return;
        times--;
        connection?.destroy();
      },
    };
  }

  test("row 105: goes on where a connection was cut", async () => {
    const { send, onProgress } = breaking(500_000, 2);
    const hub = await startHub({ storage: serving(send), onProgress });
    expect(isModel(await hub.fetch(NAME))).toBe(true);
    const ranges = hub.asked.filter(({ at }) => at === "storage").map(({ range }) => range);
    expect(ranges).toEqual([undefined, "bytes=500000-", "bytes=1000000-"]);
  });

  test.each([
    ["it is another file by now", Buffer.from(HUB_MODEL).fill(1, 0, 100_000), false],
    ["the storage knows no ranges", HUB_MODEL, true],
  ])("row 105: begins again where %s", async (_why, firstContent, ignoresRanges) => {
    const { send, onProgress } = breaking(300_000, 1);
    let content = firstContent;
    const hub = await startHub({
      // A hub that has its files itself and says nothing of their digests.
      hub: (request, response) => {
        if (ignoresRanges) delete request.headers.range;
        serving(send, content)(request, response);
        content = HUB_MODEL;
      },
      onProgress,
    });
    expect(isModel(await hub.fetch(NAME))).toBe(true);
    expect(hub.asked[1]?.range).toBe("bytes=300000-");
  });

  test("row 105: that was there to the last byte is not fetched again", async () => {
    const hub = await startHub();
    const staging = join(hub.directory, `${FOLDER}.part`);
    // As a process leaves it that is killed between the last byte and the new name.
    mkdirSync(staging, { recursive: true });
    const version = createHash("sha256").update(HUB_MODEL).digest("hex");
    writeFileSync(join(staging, "m.gguf.partial.version"), version);
    writeFileSync(join(staging, "m.gguf.partial"), HUB_MODEL);
    expect(isModel(await hub.fetch(NAME))).toBe(true);
    expect(hub.asked.map(({ range }) => range)).toEqual(["bytes=2068288-", "bytes=2068288-"]);
  });

  test("row 105: a download that is killed is no model, and the next one ends it", async () => {
    let most = 1 << 20;
    const hub = await startHub({
      storage: serving((response, body) =>
        body.length <= most ? response.end(body) : response.write(body.subarray(0, most)),
      ),
    });
    const script = `
      import { fetchFromHub } from "./models/download.ts";
      const progress = (done) => done === ${most} && process.stdout.write("begun\\n");
      const reporter = { note: () => undefined, progress };
      const { WEFT_CACHE } = process.env;
      await fetchFromHub("${NAME}", { directory: WEFT_CACHE + "/models", offline: false, reporter, env: process.env });
    `;
    const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", script], {
      cwd: packageRoot,
      env: { ...process.env, ...hub.env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const exited = once(child, "exit");
    const begun = once(child.stdout, "data").then(() => "begun");
    expect(await Promise.race([begun, exited])).toBe("begun");
    child.kill("SIGKILL");
    await exited;
    expect(readdirSync(hub.directory).sort()).toEqual([`${FOLDER}.lock`, `${FOLDER}.part`]);
    most = Infinity;
    expect(isModel(await hub.fetch(NAME))).toBe(true);
    expect(readdirSync(hub.directory)).toEqual([FOLDER]);
    expect(hub.asked.at(-1)?.range).toBe("bytes=1048576-");
  });
});

describe("a model in parts", () => {
  const [OLD, NEW] = ["a".repeat(40), "b".repeat(40)];
  const PARTS = "hf:some/repo/m-00001-of-00003.gguf";
  const partOf = (path: string): string => /m-0000(\d)-of/.exec(path)?.[1] ?? "";

  /** A hub that says which revision it gives, and refuses the parts that it is told to. */
  async function startRevisions() {
    const state = { main: OLD, refuses: "", says: true, gone: false };
    const hub = await startHub({
      hub: (request, response, storage) => {
        const { url = "" } = request;
        const [, asked = ""] = /\/resolve\/(\w+)\//.exec(url) ?? [];
        if (state.refuses === partOf(url)) return response.writeHead(403).end();
        if (state.gone && asked === OLD) return response.writeHead(404).end();
        if (state.says) response.setHeader("x-repo-commit", asked === "main" ? state.main : asked);
        // It changes as soon as something of it has been asked for.
        state.main = NEW;
        return redirecting(request, response, storage);
      },
    });
    const questions = (): string[] =>
      hub.asked
        .splice(0)
        .filter(({ at }) => at === "hub")
        .map(({ path }) => `${/\/resolve\/(\w+)\//.exec(path)?.[1]?.slice(0, 4)} ${partOf(path)}`);
    return { hub, state, questions };
  }

  test("is of one revision, though the repository changes meanwhile", async () => {
    const { hub, questions } = await startRevisions();
    const path = await hub.fetch(PARTS);
    expect(questions()).toEqual(["main 1", "aaaa 2", "aaaa 3"]);
    expect(readdirSync(dirname(path)).sort()).toEqual([1, 2, 3].map((part) => `m-0000${part}-of-00003.gguf`));
  });

  test("is asked for as ever where a hub says nothing of revisions", async () => {
    const { hub, state, questions } = await startRevisions();
    state.says = false;
    await hub.fetch(PARTS);
    expect(questions()).toEqual(["main 1", "main 2", "main 3"]);
  });

  test("goes on with the revision that its first part is of", async () => {
    const { hub, state, questions } = await startRevisions();
    state.refuses = "2";
    await failureOf(hub, PARTS);
    state.refuses = "";
    questions();
    await hub.fetch(PARTS);
    expect(questions()).toEqual(["aaaa 2", "aaaa 3"]);
  });

  test("begins anew where that revision is gone", async () => {
    const { hub, state, questions } = await startRevisions();
    state.refuses = "2";
    await failureOf(hub, PARTS);
    state.refuses = "";
    state.gone = true;
    questions();
    expect(isModel(await hub.fetch(PARTS))).toBe(true);
    expect(questions()).toEqual(["aaaa 2", "main 1", "bbbb 2", "bbbb 3"]);
  });
});

test("a hub that knows no HEAD is one", async () => {
  const hub = await startHub({ head: (response) => response.socket?.destroy() });
  expect(isModel(await hub.fetch(NAME))).toBe(true);
});

describe("a name", () => {
  /** A hub that lists this file for every tag. */
  const listing = (rfilename: unknown) =>
    startHub({
      hub: (request, response, storage) =>
        request.url?.startsWith("/v2/") === true
          ? response.end(JSON.stringify({ ggufFile: { rfilename } }))
          : redirecting(request, response, storage),
    });

  test.each([
    ["hf:some/repo:Q4_K_M", "Q4_K_M"],
    ["hf:some/repo", "latest"],
  ])("%s is the file that the hub says it is", async (name, tag) => {
    const hub = await listing("sub/m-Q4_K_M.gguf");
    const path = await hub.fetch(name);
    expect(isModel(path)).toBe(true);
    expect(path.slice(hub.directory.length)).toBe(
      `/${name.slice(3).replaceAll(/[/:]/g, "--")}/m-Q4_K_M.gguf`,
    );
    expect(hub.asked.map((asked) => asked.path)).toEqual([
      `/v2/some/repo/manifests/${tag}`,
      "/some/repo/resolve/main/sub/m-Q4_K_M.gguf",
      "/blob?signed=1",
    ]);
  });

  test("of a model in parts brings them all, side by side", async () => {
    const hub = await listing("m-00001-of-00003.gguf");
    const path = await hub.fetch("hf:some/repo:Q8_0");
    const files = [1, 2, 3].map((part) => `m-0000${part}-of-00003.gguf`);
    expect([basename(path), readdirSync(dirname(path)).sort()]).toEqual([files[0], files]);
    expect(hub.asked.map((asked) => asked.path).filter((asked) => asked.endsWith("gguf"))).toEqual(
      files.map((file) => `/some/repo/resolve/main/${file}`),
    );
    expect(hub.notes).toContain("hf:some/repo:Q8_0: part 2 of 3");
  });

  test.each([
    "../../x.gguf",
    "/etc/x.gguf",
    "a/../../x.gguf",
    "x\u0000.gguf",
    "x",
    7,
    undefined,
    `${"x".repeat(5000)}.gguf`,
  ])("row 108: that the hub leads to %j is refused", async (file) => {
    const hub = await listing(file);
    expect(await failureOf(hub, "hf:some/repo")).toEqual({
      code: ExitCode.modelNotFound,
      line: `Cannot fetch hf:some/repo: the repository has no GGUF file. Look at ${hub.env["HF_ENDPOINT"]}/some/repo.`,
    });
    expect(hub.asked).toHaveLength(1);
  });
});

describe("row 103: a disk without room", () => {
  test("is seen before the download begins, with what is needed and what is there", async () => {
    const hub = await startHub({
      hub: (_request, response) => response.writeHead(200, { "content-length": 2 ** 52 }).write("GGUF"),
    });
    expect(await failureOf(hub)).toEqual({
      code: ExitCode.failed,
      line: expect.stringMatching(
        new RegExp(
          `^Cannot fetch ${NAME}: there is no room in ${hub.directory} \\(it would fill the disk\\)\\. ` +
            "4503599627\\.4 MB more are needed, [\\d.]+ MB are free\\. Make room, or keep models elsewhere with WEFT_CACHE; the next try goes on from here\\.$",
        ),
      ),
    });
  });

  test("that fills up in the middle keeps what came, and the next try goes on from there", async () => {
    const hub = await startHub();
    const command = ["--fsize=1000000", process.execPath, "--import", "tsx", "src/main.ts", "pull", NAME];
    const child = spawn("prlimit", command, {
      cwd: packageRoot,
      env: { ...process.env, ...hub.env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    const [code] = (await once(child, "close")) as [number];
    expect([code, stderr]).toEqual([
      ExitCode.failed,
      expect.stringMatching(
        /there is no room in .* \(EFBIG\)\. \d\.\d MB more are needed, [\d.]+ MB are free\./,
      ),
    ]);
    expect(isModel(await hub.fetch(NAME))).toBe(true);
    expect(hub.asked.at(-1)?.range).toBe("bytes=1000000-");
  });
});
