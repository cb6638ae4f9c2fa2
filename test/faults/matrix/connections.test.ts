/** Connections that break, stall, crowd or speak nonsense: rows 1 to 30 of the fault matrix. */
import { once } from "node:events";
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { BatchEntry } from "../../../engine/backend.ts";
import {
  abusedServer,
  ABUSED_MODEL,
  errorOf,
  fakeText,
  openSocket,
  rawExchange,
  rawPost,
  textOf,
} from "../../support/abused-server.ts";
import type { AbusedServer } from "../../support/abused-server.ts";
import { seededRandom } from "../../support/body-mutator.ts";

const KEY = "sk-0123456789abcdef";
const CONTEXT = 4096;
/** Far above what anything takes: it only ever tells that something hangs. */
const POLL = { timeout: 6000, interval: 2 };

/** Awaited by every call of the model; a test sets it. */
let onRun: (entries: readonly BatchEntry[]) => Promise<void> | void = () => undefined;
let server: AbusedServer;
const warnings: string[] = [];
const onWarning = ({ message }: Error): number => warnings.push(message);

beforeAll(async () => {
  process.on("warning", onWarning);
  server = await abusedServer({
    sizes: { contextTokens: CONTEXT },
    maxQueued: 600,
    onRun: (entries) => onRun(entries),
  });
});
afterAll(async () => {
  process.off("warning", onWarning);
  await server.close();
});

function completion(prompt: string, fields: object = {}): string {
  return JSON.stringify({ model: ABUSED_MODEL, prompt, max_tokens: 8, temperature: 0, ...fields });
}

const openGates: (() => void)[] = [];
// A test that fails in front of a closed gate must not take the others with it.
function openAll(): void {
  for (const open of openGates.splice(0)) open();
  onRun = () => undefined;
}
const beside = (abuse: () => Promise<void>): Promise<void> =>
  server.beside(async () => {
    try {
      await abuse();
    } finally {
      openAll();
    }
  });

/** Holds every call from the one on that `when` is true of, until it is opened. */
function gate(when: (entries: readonly BatchEntry[]) => boolean) {
  let open = (): void => undefined;
  let reach = (): void => undefined;
  let closed = true;
  const opened = new Promise<void>((resolve) => (open = resolve));
  const reached = new Promise<void>((resolve) => (reach = resolve));
  let holding = false;
  openGates.push(() => open());
  onRun = (entries) => {
    holding ||= when(entries);
    if (!holding || !closed) return undefined;
    reach();
    return opened;
  };
  return {
    reached,
    open: (): void => {
      closed = false;
      onRun = () => undefined;
      open();
    },
  };
}

/** What the engine calls the request with this prompt, as soon as it has been asked. */
async function submitted(prompt: string): Promise<string> {
  const find = (): string | undefined =>
    server
      .engine()
      .submits.find(({ prompt: [part] }) => part !== undefined && "text" in part && part.text === prompt)?.id;
  await expect.poll(find, POLL).toBeDefined();
  return find() ?? "";
}

async function cancelled(id: string): Promise<void> {
  const sees = (): boolean =>
    server.engine().commands.some((command) => command.type === "cancel" && command.id === id);
  await expect.poll(sees, POLL).toBe(true);
}

/** So many turns of the event loop. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function socketWith(bytes: string): Promise<Socket> {
  const socket = await openSocket(server.port);
  socket.write(bytes);
  return socket;
}

const disconnects = (phase: string): Promise<number> =>
  server.metric(`weft_client_disconnects_total{phase="${phase}"}`);

test("1 a client that closes while queued is never computed", async () => {
  const before = await disconnects("queue");
  const seen: number[] = [];
  await beside(async () => {
    const { reached, open } = gate(() => true);
    const holders = ["h1", "h2", "h3", "h4"].map((prompt) => server.complete(prompt));
    await reached;
    for (const prompt of ["h1", "h2", "h3", "h4"]) await submitted(prompt);
    const victim = await socketWith(rawPost(completion("Queued", { stream: true })));
    const id = await submitted("Queued");
    // Until the engine has put it in its queue; it answers no question before its call is over.
    await turns(20);
    victim.destroy();
    await cancelled(id);
    await turns(2);
    open();
    onRun = (entries) => void seen.push(...entries.flatMap(({ tokens }) => [...tokens]));
    for (const answer of await Promise.all(holders)) expect(answer.status).toBe(200);
  });
  expect(seen).not.toContain("Q".charCodeAt(0));
  expect(await disconnects("queue")).toBe(before + 1);
});

test("2 a client that closes while its prompt is computed costs one more cell at most", async () => {
  const before = await disconnects("prefill");
  let cells = 0;
  await beside(async () => {
    const { reached, open } = gate((entries) => {
      if (entries.some(({ tokens }) => tokens.includes("V".charCodeAt(0)))) cells += 1;
      return cells === 3;
    });
    const prompt = "V".repeat(800);
    const victim = await socketWith(rawPost(completion(prompt)));
    await reached;
    victim.destroy();
    await cancelled(await submitted(prompt));
    await turns(2);
    open();
    onRun = (entries) => {
      if (entries.some(({ tokens }) => tokens.includes("V".charCodeAt(0)))) cells += 1;
    };
  });
  expect(cells).toBeLessThanOrEqual(4);
  expect(await disconnects("prefill")).toBe(before + 1);
});

test("3 a client that closes in a stream costs one more step at most, and its prefix stays cached", async () => {
  const prompt = "W".repeat(200);
  let furthest = 0;
  await beside(async () => {
    const { reached, open } = gate((entries) => {
      furthest = Math.max(furthest, ...entries.map(({ position }) => position));
      return furthest >= 210;
    });
    const victim = await socketWith(rawPost(completion(prompt, { stream: true, max_tokens: 1000 })));
    await reached;
    const atDrop = furthest;
    victim.destroy();
    await cancelled(await submitted(prompt));
    await turns(2);
    open();
    onRun = (entries) => {
      furthest = Math.max(furthest, ...entries.map(({ position }) => position));
    };
    expect(atDrop).toBeGreaterThanOrEqual(210);
    await server.complete("after it");
    expect(furthest).toBeLessThanOrEqual(atDrop + 1);
  });
  const again = JSON.parse((await server.complete(prompt)).text) as {
    usage: { prompt_tokens_details: { cached_tokens: number } };
  };
  expect(again.usage.prompt_tokens_details.cached_tokens).toBeGreaterThan(190);
});

test("6 a hundred clients that come and go at random leave nothing", async () => {
  const random = seededRandom(6);
  const visit = async (i: number): Promise<void> => {
    const bytes = rawPost(completion(`storm ${i}`, { stream: i % 2 === 0, max_tokens: 40 }));
    const socket = await socketWith(
      bytes.slice(0, random() < 0.2 ? Math.floor(random() * bytes.length) : undefined),
    );
    await turns(Math.floor(random() * 30));
    socket.destroy();
  };
  await beside(async () => {
    for (let wave = 0; wave < 5; wave++)
      await Promise.all(Array.from({ length: 20 }, (_, i) => visit(20 * wave + i)));
  });
  expect(textOf((await server.complete("after the storm", { stream: true })).text)).toBe(
    `${fakeText("after the storm", 8)} length [DONE]`,
  );
});

test.each([
  [12, "are cancelled with it"],
  [50, "are cancelled, since it is cut off"],
])("7 of %i requests pipelined on one socket eight run, and all %s", async (count) => {
  const [submits, cancels] = [server.engine().submits.length, cancelCount()];
  const pipelined = (): number =>
    server
      .engine()
      .submits.slice(submits)
      .filter(({ params }) => params.maxTokens === 3000).length;
  await beside(async () => {
    const bytes = rawPost(completion("P", { max_tokens: 3000, ignore_eos: true }));
    const client = await socketWith(bytes.repeat(count));
    await expect.poll(pipelined, POLL).toBe(8);
    if (count < 16) client.destroy();
    await expect.poll(cancelCount, POLL).toBe(cancels + 8);
    client.destroy();
  });
  expect(pipelined()).toBe(8);
});

function cancelCount(): number {
  return server.engine().commands.filter(({ type }) => type === "cancel").length;
}

test("9 a client that reads nothing of a long answer frees its slots, and holds up nobody", async () => {
  await beside(async () => {
    const body = completion("slow", { stream: true, n: 4, max_tokens: 500, ignore_eos: true });
    const client = await socketWith(rawPost(body));
    await submitted("slow");
    await expect.poll(() => server.host.served[0]?.loaded?.engine.openRequests, POLL).toBeLessThanOrEqual(1);
    client.destroy();
  });
});

test("10 a hundred clients that read nothing hold up nobody", async () => {
  await beside(async () => {
    const clients: Socket[] = [];
    for (let i = 0; i < 100; i++)
      clients.push(await socketWith(rawPost(completion(`reader ${i % 20}`, { stream: true }))));
    await submitted("reader 19");
    await expect.poll(async () => (await server.state()).waiting, POLL).toBe(0);
    for (const client of clients) client.destroy();
  });
});

test("12 a body that does not come is nothing to the engine, and its client may leave", async () => {
  const submits = server.engine().submits.length;
  const whole = rawPost(completion("never whole"));
  await beside(async () => {
    const client = await socketWith(whole.slice(0, -20));
    await server.complete("beside the slow body");
    client.write(whole.slice(-20, -19));
    await server.complete("beside the slow body");
    client.destroy();
  });
  const prompts = server
    .engine()
    .submits.slice(submits)
    .map(({ prompt }) => JSON.stringify(prompt));
  expect(prompts.some((prompt) => prompt.includes("never"))).toBe(false);
});

test("13 three hundred idle connections cost no request its answer", async () => {
  await beside(async () => {
    const idle: Socket[] = [];
    for (let i = 0; i < 300; i++) idle.push(await openSocket(server.port));
    expect((await server.complete("beside them")).status).toBe(200);
    for (const socket of idle) socket.destroy();
  });
});

test("15 connections are kept longer than the sixty seconds of common proxies", async () => {
  const answer = await rawExchange(
    server.port,
    "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
  );
  expect(answer).toContain("Keep-Alive: timeout=75");
  expect(answer.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2);
});

test.each([
  [
    "a header block of 20 kB",
    `GET /health HTTP/1.1\r\nHost: localhost\r\nX: ${"x".repeat(20_000)}\r\n\r\n`,
    431,
  ],
  [
    "1900 headers",
    `GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${"a:1\r\n".repeat(1900)}X-Request-Id: last\r\n\r\n`,
    "200 OK[^]*x-request-id: last",
  ],
  [
    "an address of 15 kB",
    `GET /${"x".repeat(15_000)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
    404,
  ],
])("16 %s is answered in order", async (_name, bytes, status) => {
  await beside(async () => {
    expect(await rawExchange(server.port, bytes)).toMatch(new RegExp(`^HTTP/1\\.1 ${status}`, "i"));
  });
});

const HEAD = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
test.each([
  [
    "two ways to tell the length",
    `${HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    400,
  ],
  ["two lengths", `${HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello`, 400],
  ["a chunk without a size", `${HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n`, 400],
  [
    "a chunk extension of 20 kB",
    `${HEAD}Transfer-Encoding: chunked\r\n\r\n5;${"x".repeat(20_000)}\r\nhello\r\n0\r\n\r\n`,
    413,
  ],
])("17 %s ends the connection with a 4xx", async (_name, bytes, status) => {
  const submits = server.engine().submits.length;
  expect(await rawExchange(server.port, bytes)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  expect(server.engine().submits).toHaveLength(submits);
});

test.each([
  ["no Host", "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"],
  ["an empty Host of HTTP/1.0", "GET /health HTTP/1.0\r\nHost:\r\n\r\n"],
  ["an empty Host", "GET /health HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n"],
  ["a Host of two words", "GET /health HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n"],
])("18 %s is a 400 in words", async (_name, bytes) => {
  const answer = await rawExchange(server.port, bytes);
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  expect(answer).toContain('"message":"The Host header is missing');
});

test("18 no Host, as HTTP/1.0 may and health checks of balancers do, is no reason to refuse", async () => {
  expect(await rawExchange(server.port, "GET /health HTTP/1.0\r\n\r\n")).toMatch(/^HTTP\/1\.1 200 /);
});

test.each([
  ["random bytes", Buffer.from(Array.from({ length: 300 }, (_, i) => (i * 131 + 7) % 256))],
  ["a TLS hello", Buffer.from([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3, 3, 0, 0, 0, 0, 0, 0])],
  ["the preface of HTTP/2", Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")],
])("19 %s is a 400 and nothing in the log", async (_name, bytes) => {
  const lines = server.log.length;
  await beside(async () => {
    const answer = await rawExchange(server.port, bytes);
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(answer).toMatch(/connection: close\r\n/i);
    expect(answer).toContain('"type":"invalid_request_error"');
  });
  expect(server.log.slice(lines).filter(({ level }) => level !== "debug" && level !== "info")).toEqual([]);
});

const MIB = 1024 * 1024;

test("20 a body past the limit is a 413 however it is announced", async () => {
  await beside(async () => {
    const announced = await server.post("/v1/completions", new Uint8Array(9 * MIB).fill(0x20));
    expect(errorOf(announced, 413).code).toBe("request_too_large");
    expect(announced.headers.connection).toBe("close");
    const chunk = `${MIB.toString(16)}\r\n${" ".repeat(MIB)}\r\n`;
    expect(
      await rawExchange(server.port, `${HEAD}Transfer-Encoding: chunked\r\n\r\n${chunk.repeat(9)}0\r\n\r\n`),
    ).toMatch(/^HTTP\/1\.1 413 /);
    // What comes behind a body that is longer than it says is no request.
    const lies = await rawExchange(server.port, `${HEAD}Content-Length: 2\r\n\r\n{}${"{".repeat(1000)}`);
    expect(new Set(lies.match(/HTTP\/1\.1 \d+/g))).toEqual(new Set(["HTTP/1.1 400"]));
  });
});

test("21 a body that is cut off is told to nobody", async () => {
  const lines = server.log.length;
  await beside(async () => {
    const client = await socketWith(`${HEAD}Content-Length: 20\r\n\r\n{"`);
    client.end();
    client.resume();
    await once(client, "close");
  });
  expect(server.log.slice(lines).filter(({ level }) => level === "error" || level === "warn")).toEqual([]);
});

test("22 a compressed body is a 415, whatever it would have become", async () => {
  const bomb = Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), Buffer.alloc(10_000)]);
  for (const encoding of ["gzip", "br", "deflate, gzip"]) {
    const answer = await server.post("/v1/completions", bomb, { "content-encoding": encoding });
    expect(errorOf(answer, 415).code).toBe("unsupported_media_type");
  }
});

test("23 a body in thirty thousand chunks of a byte is read or refused, and nobody waits for it", async () => {
  const body = completion("tiny pieces", { metadata: { filler: "x".repeat(400) } }).padEnd(30_000, " ");
  const chunked = Array.from(body, (byte) => `1\r\n${byte}\r\n`).join("");
  await beside(async () => {
    const answer = await rawExchange(
      server.port,
      `${HEAD}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n${chunked}0\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer).toContain(fakeText("tiny pieces", 8));
  });
});

test("24 who asks before sending is refused before sending, and else told to go on", async () => {
  const locked = await abusedServer({
    config: {
      apiKeys: [
        {
          name: "ann",
          sha256: "0e4b1e3a2a0d1d9a1b2c6f0b9c4e1d7f5a3b8c9d0e1f2a3b4c5d6e7f8091a2b3",
        },
      ],
    },
  });
  const expecting = (headers: string): string =>
    `${HEAD}Connection: close\r\nExpect: 100-continue\r\n${headers}\r\n`;
  const statuses = (text: string): string[] => text.match(/HTTP\/1\.1 \d+/g) ?? [];
  expect(statuses(await rawExchange(locked.port, expecting(`Content-Length: 20\r\n`)))).toEqual([
    "HTTP/1.1 401",
  ]);
  await locked.close();
  expect(statuses(await rawExchange(server.port, expecting(`Content-Length: ${100 * MIB}\r\n`)))).toEqual([
    "HTTP/1.1 413",
  ]);
  const body = completion("go on");
  const client = await socketWith(expecting(`Content-Length: ${body.length}\r\n`));
  const [first] = (await once(client, "data")) as [Buffer];
  expect(String(first)).toBe("HTTP/1.1 100 Continue\r\n\r\n");
  client.write(body);
  const [second] = (await once(client, "data")) as [Buffer];
  expect(String(second)).toMatch(/^HTTP\/1\.1 200 /);
  client.destroy();
  await server.quiet();
});

test("26 methods that a path does not have are a 405 that names those it has", async () => {
  for (const [path, allowed] of [
    ["/v1/models", "GET, HEAD, OPTIONS"],
    ["/v1/completions", "POST, OPTIONS"],
    ["/health", "GET, HEAD, OPTIONS"],
  ] as const) {
    for (const method of [
      "PUT",
      "PATCH",
      "TRACE",
      "CONNECTION",
      allowed.startsWith("GET") ? "POST" : "GET",
    ]) {
      const text = await rawExchange(
        server.port,
        `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
      );
      // Node's parser knows no such method.
      if (method === "CONNECTION") expect(text).toMatch(/^HTTP\/1\.1 400 /);
      else {
        expect(text).toMatch(/^HTTP\/1\.1 405 /);
        expect(text.toLowerCase()).toContain(`\r\nallow: ${allowed.toLowerCase()}\r\n`);
        expect(text).toContain('"type":"invalid_request_error"');
      }
    }
    const head = await server.get(path, "HEAD");
    expect([head.status, head.text]).toEqual([allowed.startsWith("GET") ? 200 : 405, ""]);
    expect((await server.get(path, "OPTIONS")).status).toBe(200);
  }
});

test("27 no spelling of a path gets round the key", async () => {
  const { createHash } = await import("node:crypto");
  const locked = await abusedServer({
    config: { apiKeys: [{ name: "ann", sha256: createHash("sha256").update(KEY).digest("hex") }] },
  });
  const ask = (path: string, key: boolean): Promise<string> =>
    rawExchange(
      locked.port,
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${key ? `Authorization: Bearer ${KEY}\r\n` : ""}\r\n`,
    );
  for (const [path, withKey] of [
    ["/v1/models", 200],
    ["//v1/models", 200],
    ["/v1/models/", 200],
    ["/v1%2Fmodels", 404],
    ["/V1/MODELS", 404],
    ["http://localhost/v1/models", 200],
    ["http://other.example/v1/models", 200],
    ["/v1/../metrics", 200],
    ["/v1/./models", 200],
    ["/%2e%2e/metrics", 200],
    ["/health/../metrics", 200],
    ["/health/..%2fmetrics", 404],
    ["/models?x=/health", 200],
    ["/metrics#/health", 200],
    ["/health;/metrics", 404],
  ] as const) {
    expect(`${path} ${await ask(path, false)}`).toContain("HTTP/1.1 401 ");
    expect(`${path} ${await ask(path, true)}`).toContain(`HTTP/1.1 ${withKey} `);
  }
  await locked.close();
});

// A client that closes its connection looks just like one that will send no more, and the first is common.
test("28 a client that has closed its side is taken for gone, and what it held is freed", async () => {
  const cancels = cancelCount();
  await beside(async () => {
    for (const stream of [true, false]) {
      const client = await openSocket(server.port);
      client.end(rawPost(completion(`half ${stream}`, { stream, max_tokens: 3000, ignore_eos: true })));
      client.resume();
      await once(client, "close");
    }
  });
  expect(cancelCount()).toBe(cancels + 2);
});

test("29 a connection that is reset in a stream frees what it held", async () => {
  const cancels = cancelCount();
  await beside(async () => {
    const client = await socketWith(
      rawPost(completion("to be reset", { stream: true, max_tokens: 3000, ignore_eos: true })),
    );
    await once(client, "data");
    client.resetAndDestroy();
    await cancelled(await submitted("to be reset"));
  });
  expect(cancelCount()).toBe(cancels + 1);
});

test("30 three hundred requests at once are answered or refused, each in words", async () => {
  const small = await abusedServer({ maxQueued: 30 });
  const statuses = await Promise.all(
    Array.from({ length: 300 }, async (_, i) => {
      const answer = await small.complete(`request ${i}`);
      if (answer.status === 200) {
        expect(answer.text).toContain(fakeText(`request ${i}`, 8));
        return 200;
      }
      expect(errorOf(answer, 503).code).toBe("server_overloaded");
      expect(Number(answer.headers["retry-after"])).toBeGreaterThanOrEqual(1);
      expect(Number(answer.headers["retry-after"])).toBeLessThanOrEqual(59);
      return 503;
    }),
  );
  await small.quiet();
  expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(30);
  expect(statuses).toContain(503);
  await small.close();
});

test("44 as many choices as one answer may have are no leak", async () => {
  const answer = await server.complete("many choices", { n: 16 });
  expect((JSON.parse(answer.text) as { choices: unknown[] }).choices).toHaveLength(16);
});

test("6 and nothing of all this was worth a warning of node's", () => {
  expect(warnings).toEqual([]);
});
