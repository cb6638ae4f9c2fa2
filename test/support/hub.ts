/** A model hub on this machine, whose files are in a storage of another origin, and a cache folder to fetch into. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { IncomingMessage, RequestListener, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fetchFromHub } from "../../models/download.ts";
import { packageRoot } from "../../models/package-root.ts";

export const HUB_MODEL = readFileSync(join(packageRoot, "models/pocket.gguf"));
export const HUB_TOKEN = "hf_secret";

/** What one of the two servers was asked, in order. */
export interface Asked {
  readonly at: "hub" | "storage";
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

export interface TestHub {
  readonly directory: string;
  readonly env: Record<string, string>;
  readonly asked: Asked[];
  /** Pauses between tries, ms. */
  readonly waits: number[];
  readonly notes: string[];
  fetch(name: string): Promise<string>;
  close(): void;
}

type Answer = (request: IncomingMessage, response: ServerResponse, storage: string) => unknown;

/** Sends a browser to the storage, and says which file it will find there, as the hub does. */
export const redirecting: Answer = (request, response, storage) =>
  response
    .writeHead(302, {
      location: `${storage}/blob?signed=1`,
      "x-linked-etag": `"${createHash("sha256").update(HUB_MODEL).digest("hex")}"`,
      "x-linked-size": HUB_MODEL.length,
    })
    .end();

/** The bytes that a request asks for, whole or as a range; `send` may send fewer of them. */
export const serving =
  (
    send = (response: ServerResponse, body: Buffer): unknown => response.end(body),
    content = HUB_MODEL,
  ): RequestListener =>
  (request, response) => {
    const [, first] = /^bytes=(\d+)-$/.exec(request.headers.range ?? "") ?? [];
    const start = Number(first ?? 0);
    const etag = `"${createHash("md5").update(content).digest("hex")}"`;
    if (start >= content.length) {
      response.writeHead(416, { etag, "content-range": `bytes */${content.length}` }).end();
      return;
    }
    const body = content.subarray(start);
    const headers = { etag, "content-length": body.length };
    const range = `bytes ${start}-${content.length - 1}/${content.length}`;
    if (first === undefined) response.writeHead(200, headers);
    else response.writeHead(206, { ...headers, "content-range": range });
    send(response, body);
  };

/**
 * @param answers What hub and storage answer, by default that the model is in the storage; and who hears of the
 * bytes that have come.
 */
export async function startTestHub(
  answers: {
    hub?: Answer;
    storage?: RequestListener;
    head?: (response: ServerResponse) => unknown;
    onProgress?: (doneBytes: number) => void;
  } = {},
): Promise<TestHub> {
  const asked: Asked[] = [];
  const listen = async (at: Asked["at"], answer: RequestListener): Promise<Server> => {
    const server = createServer((request, response) => {
      const { authorization, range } = request.headers;
      if (request.method === "HEAD") return (answers.head ?? ((head) => head.end()))(response);
      // The question whether there is a hub at all is none about a file.
      if (request.url === "/") return response.end();
      asked.push({ at, path: request.url ?? "", range, authorization });
      return answer(request, response);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return server;
  };
  const address = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const storage = await listen("storage", answers.storage ?? serving());
  const answer = answers.hub ?? redirecting;
  const hub = await listen("hub", (request, response) => void answer(request, response, address(storage)));
  const root = mkdtempSync(join(tmpdir(), "weft-hub-"));
  const directory = join(root, "models");
  const env: Record<string, string> = { HF_ENDPOINT: address(hub), HF_TOKEN: HUB_TOKEN, WEFT_CACHE: root };
  const waits: number[] = [];
  const notes: string[] = [];
  return {
    directory,
    env,
    asked,
    waits,
    notes,
    fetch: (name) =>
      fetchFromHub(name, {
        directory,
        offline: false,
        reporter: { note: (line) => notes.push(line), progress: (done) => answers.onProgress?.(done) },
        env,
        wait: async (ms) => void waits.push(ms),
      }),
    close() {
      for (const server of [hub, storage]) {
        server.closeAllConnections();
        server.close();
      }
      rmSync(root, { recursive: true, force: true });
    },
  };
}
