/** What a connection may do: how many there may be, how much their headers hold, how slowly they may send. */
import { once } from "node:events";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { DEFAULT_LIMITS } from "../../../src/config/limits.ts";
import type { Limits } from "../../../src/config/limits.ts";
import { HttpServer, ServerLifecycle } from "../../../src/server.ts";

const servers: HttpServer[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close(0);
});

async function listen(limits: Partial<Limits>) {
  let drops = 0;
  const app = { fetch: async (request: Request) => new Response(String((await request.text()).length)) };
  const server = new HttpServer(app, new ServerLifecycle(), {
    writeTimeoutMs: 60_000,
    limits: { ...DEFAULT_LIMITS, ...limits },
    onDrop: () => drops++,
  });
  servers.push(server);
  const port = await server.listen({ host: "127.0.0.1", port: 0 });
  return { open: () => connect(port, "127.0.0.1"), drops: () => drops };
}

/** Everything the server sends until it ends the connection. */
async function rest(socket: Socket): Promise<string> {
  let text = "";
  socket.setEncoding("utf8").on("data", (data) => (text += data));
  await once(socket, "close");
  return text;
}

function errorIn(answer: string): { readonly status: string; readonly error: Record<string, unknown> } {
  const [head = "", body = ""] = answer.split("\r\n\r\n");
  expect(head.toLowerCase()).toContain("connection: close");
  return { status: head.split(" ")[1] ?? "", ...(JSON.parse(body) as { error: Record<string, unknown> }) };
}

const GET = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
const POST = "POST / HTTP/1.1\r\nhost: localhost\r\n";

describe("the headers of a request", () => {
  const padded = (bytes: number): string =>
    `${GET}x: ${"a".repeat(bytes - GET.length - "x: \r\n\r\n".length)}\r\n\r\n`;

  it("fit, or are a 431 that names the limit", async () => {
    const { open } = await listen({ "max-header-bytes": 1024 });
    const fitting = open();
    fitting.write(padded(900));
    expect(await rest(fitting)).toMatch(/^HTTP\/1.1 200 /);
    const tooLarge = open();
    tooLarge.write(padded(1200));
    const { status, error } = errorIn(await rest(tooLarge));
    expect([status, error]).toEqual([
      "431",
      {
        message: "The headers are larger than 1024 bytes, the most this server accepts (--max-header-bytes).",
        type: "invalid_request_error",
        param: null,
        code: "headers_too_large",
      },
    ]);
  });

  it.each([
    ["headers", "GET / HTTP/1.1\r\nhost: loc", { "max-header-seconds": 0.1 }],
    [
      "a body",
      `${POST}content-length: 9\r\n\r\nabc`,
      { "max-header-seconds": 0.1, "max-request-seconds": 0.2 },
    ],
  ])("and what follows have a time: %s that do not come are a 408", async (_, begin, limits) => {
    const { open } = await listen(limits);
    const socket = open();
    socket.write(begin);
    const { status, error } = errorIn(await rest(socket));
    expect([status, error["code"]]).toEqual(["408", "request_timeout"]);
    expect(error["message"]).toContain("(--max-header-seconds)");
    expect(error["message"]).toContain("(--max-request-seconds)");
  });

  it("that are none are a 400 in JSON", async () => {
    const { open } = await listen({});
    for (const begin of ["\u0016\u0003\u0001 hello", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]) {
      const socket = open();
      socket.write(begin);
      const { status, error } = errorIn(await rest(socket));
      expect([status, error["code"]]).toEqual(["400", "malformed_request"]);
    }
  });
});

describe("a request", () => {
  it.each(["", "Host: \r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: a.1\r\n", "Host: 999.1.1.1\r\n"])(
    "whose host is %j is told so",
    async (host) => {
      const { open } = await listen({});
      const socket = open();
      socket.write(`GET / HTTP/1.1\r\n${host}connection: close\r\n\r\n`);
      expect(errorIn(await rest(socket))).toMatchObject({
        status: "400",
        error: { code: "malformed_request", message: expect.stringContaining("Host header") },
      });
    },
  );

  it.each(["OPTIONS *", "GET /a\\b", "GET http://"])(
    "that begins with %j is told that its target cannot be read",
    async (begin) => {
      const { open } = await listen({});
      const socket = open();
      socket.write(`${begin} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`);
      expect(errorIn(await rest(socket))).toMatchObject({
        status: "400",
        error: { code: "malformed_request", message: expect.stringContaining("request target") },
      });
    },
  );
});

describe("connections", () => {
  it("past the limit are closed at once and counted, and nobody else is", async () => {
    const { open, drops } = await listen({ "max-connections": 2 });
    const [first, second] = [open(), open()];
    await Promise.all([once(first, "connect"), once(second, "connect")]);
    const third = open();
    expect(await rest(third)).toBe("");
    expect(drops()).toBe(1);
    first.write(`${GET}\r\n`);
    expect(await rest(first)).toMatch(/^HTTP\/1.1 200 /);
    second.destroy();
  });
});
