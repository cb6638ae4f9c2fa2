import { once } from "node:events";
import { Agent, request } from "node:http";
import type { ClientRequest, IncomingMessage } from "node:http";
import { connect } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { shutDown } from "../../../src/cli/shutdown.ts";
import { DEFAULT_LIMITS } from "../../../src/config/limits.ts";
import { HttpServer, ServerLifecycle } from "../../../src/server.ts";
import { createLog } from "../../../src/log.ts";

const log = createLog({ level: "silent", format: "json" });
const background = { close: () => {} };
const agent = new Agent({ keepAlive: true });
const servers: HttpServer[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close(0).catch(() => undefined);
});

/** A server whose answers end when the test says so. */
async function scriptedServer(writeTimeoutMs = 60_000) {
  const lifecycle = new ServerLifecycle();
  const open: { finish(): void; fail(): void }[] = [];
  const app = {
    fetch(incoming: Request): Response {
      const { pathname } = new URL(incoming.url);
      if (pathname === "/endless") return new Response(endless());
      if (pathname === "/state") return new Response(String(lifecycle.draining));
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          const send = (text: string): void => controller.enqueue(new TextEncoder().encode(text));
          send("begin ");
          const end = (text: string) => () => {
            send(text);
            controller.close();
          };
          open.push({ finish: end("end"), fail: end("error frame") });
        },
      });
      return new Response(body);
    },
  };
  const server = new HttpServer(app, lifecycle, { writeTimeoutMs, limits: DEFAULT_LIMITS });
  servers.push(server);
  const port = await server.listen({ host: "127.0.0.1", port: 0 });
  return { server, lifecycle, port, open };
}

/** A body that never ends, in pieces that fill every buffer on the way. */
function endless(): ReadableStream<Uint8Array> {
  return new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(1 << 20)),
  });
}

function get(port: number, path: string): ClientRequest {
  return request({ port, host: "127.0.0.1", path, agent }).end();
}

async function answer(call: ClientRequest): Promise<IncomingMessage> {
  const [response] = (await once(call, "response")) as [IncomingMessage];
  return response;
}

async function bodyOf(response: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of response) text += String(chunk);
  return text;
}

function modelsThat(effects: { kill?(): void }) {
  const calls: string[] = [];
  return {
    calls,
    async stop() {
      calls.push("stop");
    },
    kill() {
      calls.push("kill");
      effects.kill?.();
    },
  };
}

describe("a shutdown", () => {
  it("refuses new work at once, lets a running answer finish, and ends idle connections", async () => {
    const { server, port, open } = await scriptedServer();
    const idle = connect(port, "127.0.0.1");
    await once(idle, "connect");
    const running = await answer(get(port, "/stream"));
    const models = modelsThat({});
    const down = shutDown(
      { server, background, models, drainSettleMs: 0, drainTimeoutMs: 60_000, log },
      new AbortController().signal,
    );

    const refused = await answer(get(port, "/state"));
    expect(refused.headers.connection).toBe("close");
    expect(await bodyOf(refused)).toBe("true");
    expect(models.calls).toEqual([]);

    open[0]?.finish();
    expect(await bodyOf(running)).toBe("begin end");
    idle.resume();
    await Promise.all([down, once(idle, "close")]);
    expect(models.calls).toEqual(["stop"]);
    const late = request({ port, host: "127.0.0.1", agent: false }).end();
    await expect(answer(late)).rejects.toThrow("ECONNREFUSED");
  });

  it("lets streams that outlive the deadline end with what their engine's end makes of them", async () => {
    const { server, port, open } = await scriptedServer();
    const running = await answer(get(port, "/stream"));
    const models = modelsThat({ kill: () => open[0]?.fail() });
    const body = bodyOf(running);
    await shutDown(
      { server, background, models, drainSettleMs: 0, drainTimeoutMs: 0, log },
      new AbortController().signal,
    );
    expect(models.calls).toEqual(["kill"]);
    expect(await body).toBe("begin error frame");
  });

  it("is quick when it is asked for twice", async () => {
    const { server, port, open } = await scriptedServer();
    const running = await answer(get(port, "/stream"));
    const hurry = new AbortController();
    const models = modelsThat({ kill: () => open[0]?.fail() });
    const body = bodyOf(running);
    const down = shutDown(
      { server, background, models, drainSettleMs: 0, drainTimeoutMs: 60_000, log },
      hurry.signal,
    );
    hurry.abort();
    await down;
    expect(models.calls).toEqual(["kill"]);
    expect(await body).toBe("begin error frame");
  });

  it("row 110: fails readiness first and serves as before until it has settled", async () => {
    const { server, lifecycle, port } = await scriptedServer();
    const hurry = new AbortController();
    const models = modelsThat({});
    const down = shutDown(
      { server, background, models, drainSettleMs: 1e9, drainTimeoutMs: 60_000, log },
      hurry.signal,
    );
    expect([lifecycle.leaving, lifecycle.draining]).toEqual([true, false]);
    const served = await answer(get(port, "/state"));
    expect(await bodyOf(served)).toBe("false");
    expect(models.calls).toEqual([]);
    hurry.abort();
    await down;
    expect([lifecycle.leaving, lifecycle.draining]).toEqual([true, true]);
  });

  it("has nothing to wait for when nothing runs", async () => {
    const { server } = await scriptedServer();
    const models = modelsThat({});
    await shutDown(
      { server, background, models, drainSettleMs: 0, drainTimeoutMs: 60_000, log },
      new AbortController().signal,
    );
    expect(models.calls).toEqual(["stop"]);
  });
});

describe("a server", () => {
  it("counts an answer until its last byte or its client is gone", async () => {
    const { server, port } = await scriptedServer();
    const call = get(port, "/stream");
    const running = await answer(call);
    expect(server.openResponses).toBe(1);
    running.on("error", () => undefined);
    call.destroy();
    await expect.poll(() => server.openResponses).toBe(0);
  });

  it("row 8: cuts off a client that reads nothing of its answer, and nobody else", async () => {
    const { server, port, open } = await scriptedServer(1);
    const running = await answer(get(port, "/stream"));
    const stopped = await answer(get(port, "/endless"));
    stopped.on("error", () => undefined).pause();
    expect(server.openResponses).toBe(2);
    await expect.poll(() => server.openResponses, { timeout: 15_000 }).toBe(1);
    open[0]?.finish();
    expect(await bodyOf(running)).toBe("begin end");
  });

  it("says that its port is in use", async () => {
    const { port } = await scriptedServer();
    const second = new HttpServer({ fetch: () => new Response() }, new ServerLifecycle(), {
      writeTimeoutMs: 60_000,
      limits: DEFAULT_LIMITS,
    });
    await expect(second.listen({ host: "127.0.0.1", port })).rejects.toMatchObject({ code: "EADDRINUSE" });
  });
});
