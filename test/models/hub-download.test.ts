/** Models from a hub that refuses, lies or is cut off: rows 105 and 107 of the fault matrix, against a hub on this machine. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { RequestListener, Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { fetchFromHub } from "../../models/download.ts";
import { packageRoot } from "../../models/package-root.ts";

const NAME = "hf:some/repo/m.gguf";
const FOLDER = "some--repo--m.gguf";
const MODEL = readFileSync(join(packageRoot, "models/pocket.gguf"));

const hubs: Server[] = [];
const folders: string[] = [];
afterEach(() => {
  for (const hub of hubs.splice(0)) {
    hub.closeAllConnections();
    hub.close();
  }
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A hub that answers so, and an empty cache folder to fetch from it into. */
async function startHub(answer: RequestListener) {
  const server = createServer(answer);
  hubs.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const directory = mkdtempSync(join(tmpdir(), "weft-hub-"));
  folders.push(directory);
  const HF_ENDPOINT = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const fetchModel = (): Promise<string> =>
    fetchFromHub(NAME, {
      directory,
      offline: false,
      reporter: { note: () => undefined, progress: () => undefined },
      env: { HF_ENDPOINT, HF_TOKEN: "hf_secret" },
    });
  return { directory, HF_ENDPOINT, fetchModel };
}

test.each([401, 403, 404])("row 107: a hub that answers %i is told of, with the way out", async (status) => {
  const { directory, fetchModel } = await startHub((_request, response) => response.writeHead(status).end());
  await expect(fetchModel()).rejects.toMatchObject({
    code: "download_failed",
    message: expect.stringMatching(
      new RegExp(
        `^Hugging Face did not give ${NAME}: .*\\b${status}\\b.* Check the name; a gated model needs HF_TOKEN\\.$`,
      ),
    ),
  });
  expect(readdirSync(directory)).toEqual([`${FOLDER}.part`]);
});

test.each([
  ["a page", Buffer.from("<html>Please log in.</html>")],
  ["half a model", MODEL.subarray(0, 100_000)],
])("row 107: %s in place of a model is not kept", async (_name, body) => {
  const { directory, fetchModel } = await startHub((request, response) => {
    response.writeHead(200, { "content-length": body.length });
    response.end(request.method === "HEAD" ? undefined : body);
  });
  await expect(fetchModel()).rejects.toMatchObject({
    code: "download_failed",
    message: expect.stringMatching(new RegExp(`^What was fetched for ${NAME} is no model and was deleted: `)),
  });
  expect(readdirSync(directory)).toEqual([]);
});

/** One part of the model for a request with a range, all of it for one without; at most `most` bytes before it stalls. */
const serving =
  (most: () => number): RequestListener =>
  (request, response) => {
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
    const start = Number(first ?? 0);
    const end = last === undefined || last === "" ? MODEL.length : Number(last) + 1;
    const headers = { "accept-ranges": "bytes", "content-length": end - start };
    if (first === undefined) response.writeHead(200, headers);
    else
      response.writeHead(206, { ...headers, "content-range": `bytes ${start}-${end - 1}/${MODEL.length}` });
    if (request.method === "HEAD") return response.end();
    const body = MODEL.subarray(start, end);
    return body.length <= most() ? response.end(body) : response.write(body.subarray(0, most()));
  };

test("row 105: a download that is killed is no model, and the next one ends it", async () => {
  let most = 1 << 20;
  const { directory, HF_ENDPOINT, fetchModel } = await startHub(serving(() => most));
  const script = `
    import { fetchFromHub } from "./models/download.ts";
    const progress = (done) => done > 0 && process.stdout.write("begun\\n");
    const reporter = { note: () => undefined, progress };
    const env = { HF_ENDPOINT: process.env.HF_ENDPOINT };
    await fetchFromHub("${NAME}", { directory: process.env.TARGET, offline: false, reporter, env });
  `;
  const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", script], {
    cwd: packageRoot,
    env: { ...process.env, HF_ENDPOINT, TARGET: directory },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const begun = once(child.stdout, "data").then(() => "begun");
  expect(await Promise.race([begun, exited])).toBe("begun");
  child.kill("SIGKILL");
  await exited;
  expect(readdirSync(directory).sort()).toEqual([`${FOLDER}.lock`, `${FOLDER}.part`]);
  most = Infinity;
  expect(readFileSync(await fetchModel()).equals(MODEL)).toBe(true);
  expect(readdirSync(directory)).toEqual([FOLDER]);
});
