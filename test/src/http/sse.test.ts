/** Frames on a real socket: chunks as HTTP wants them, in turn, at the client's speed. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { ServerResponse } from "node:http";
import { connect } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { responseSink, SSE_HEADERS } from "../../../src/http/sse.ts";

const BLANK = "\r\n\r\n";

let answers: ServerResponse[] = [];
let onAnswer: (() => void) | undefined;
const server = createServer((_request, response) => {
  response.writeHead(200, SSE_HEADERS);
  response.flushHeaders();
  answers.push(response);
  onAnswer?.();
});

beforeEach(async () => {
  answers = [];
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

/** A client that has sent this, once so many answers have begun. */
async function client(request: string, count: number): Promise<Socket> {
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  socket.on("error", () => undefined);
  socket.write(request);
  while (answers.length < count) await new Promise<void>((resolve) => (onAnswer = resolve));
  return socket;
}

/** All that comes up to the end. */
async function textOf(socket: Socket): Promise<string> {
  let text = "";
  for await (const bytes of socket.setEncoding("utf8")) text += String(bytes);
  return text;
}

/** What stands behind the heads. */
function bodies(text: string): string[] {
  const [, ...parts] = text.split("HTTP/1.1 200 OK\r\n");
  return parts.map((part) => part.slice(part.indexOf(BLANK) + BLANK.length));
}

const last = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

describe("frames on a socket", () => {
  it("are chunks of as many bytes as they say", async () => {
    const socket = await client(last, 1);
    const sink = responseSink(answers[0]!);
    expect(sink.write("data: é€😀\n\n")).toBeUndefined();
    void sink.write("data: b\n\n");
    sink.end();
    expect(bodies(await textOf(socket))).toEqual(["11\r\ndata: é€😀\n\n\r\n9\r\ndata: b\n\n\r\n0\r\n\r\n"]);
  });

  it("wait while an answer before them on the socket is unfinished", async () => {
    const socket = await client("GET / HTTP/1.1\r\nhost: a\r\n\r\n" + last, 2);
    const [first, second] = answers.map((answer) => responseSink(answer));
    void second!.write("data: 2\n\n");
    void first!.write("data: 1\n\n");
    first!.end();
    void second!.write("data: 3\n\n");
    second!.end();
    expect(bodies(await textOf(socket))).toEqual([
      "9\r\ndata: 1\n\n\r\n0\r\n\r\n",
      "9\r\ndata: 2\n\n\r\n9\r\ndata: 3\n\n\r\n0\r\n\r\n",
    ]);
  });

  it("are no chunks for a client of HTTP/1.0", async () => {
    const socket = await client("GET / HTTP/1.0\r\n\r\n", 1);
    const sink = responseSink(answers[0]!);
    void sink.write("data: a\n\n");
    sink.end();
    expect(bodies(await textOf(socket))).toEqual(["data: a\n\n"]);
  });

  it("are not sent in answer to HEAD", async () => {
    const socket = await client("HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 1);
    const sink = responseSink(answers[0]!);
    void sink.write("data: a\n\n");
    sink.end();
    expect(bodies(await textOf(socket))).toEqual([""]);
  });

  it.each(["reads on", "has gone"])("say when there is room again, or the client %s", async (end) => {
    const socket = await client(last, 1);
    const sink = responseSink(answers[0]!);
    const closed = answers[0]!.listenerCount("close");
    let room: Promise<void> | undefined;
    while (room === undefined) room = sink.write("x".repeat(100_000));
    if (end === "reads on") socket.resume();
    else socket.destroy();
    await room;
    expect(answers[0]!.listenerCount("close")).toBe(closed);
    sink.end();
  });
});
