/** A client that leaves frees what it held, in every phase, and leaves no listener behind. */
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import { listenTestApp } from "../support/listen.ts";
import { sayThenStop } from "../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../support/test-app.ts";
import { EOS, idsOf } from "../support/tiny-vocabulary.ts";

const BODY = JSON.stringify({ model: MODEL_ID, messages: [{ role: "user", content: "hi" }] });

function rawRequest(body: string): string {
  return (
    "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
    `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}

/** Resolves when the whole answer has been read and its socket is free again. */
function exchange(url: string, agent: Agent, body: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json" };
    const sent = request(url, { method: "POST", agent, headers }, (response) => {
      response.resume().once("close", () => setImmediate(resolve));
    });
    sent.once("error", reject).end(body);
  });
}

describe.each([true, false])("a client that leaves (stream: %s)", (stream) => {
  it("before the engine took its request has it cancelled", async () => {
    const { chat, engine, log, app } = createTestApp();
    const gone = new AbortController();
    const answer = chat({ stream }, { signal: gone.signal });
    await engine.until(() => engine.submits.length === 1);
    gone.abort();
    expect((await answer).status).toBe(499);
    expect(engine.cancels).toEqual(["chatcmpl-2"]);
    expect(log.at(-1)?.fields).toMatchObject({ outcome: "cancelled" });
    expect(await (await app.request("/metrics")).text()).toContain(
      'weft_client_disconnects_total{phase="admission"} 1',
    );
  });

  it.each([
    ["queue", []],
    ["prefill", ["prefill"]],
    ["queue", ["prefill", "queue"]],
    ["decode", ["prefill", "token"]],
    ["decode", ["token"]],
  ] as const)("in the phase %s, after %j, has its request cancelled", async (phase, said) => {
    const { chat, engine, app, deps } = createTestApp();
    const gone = new AbortController();
    const answer = chat({ stream }, { signal: gone.signal });
    await engine.until(() => engine.submits.length === 1);
    const [submit] = engine.submits;
    if (submit === undefined) throw new Error("nothing was submitted");
    engine.accept(submit);
    for (const what of said) {
      if (what === "token") engine.step(submit, { tokens: idsOf("Hel") }, true);
      else engine.move(submit, what);
    }
    // The answer's code runs between two events of the loop.
    await new Promise((resolve) => setImmediate(resolve));
    gone.abort();
    const response = await answer;
    expect(await response.text()).not.toContain('finish_reason":"');
    expect(engine.cancels).toEqual(["chatcmpl-2"]);
    expect(deps.models.served[0]?.loaded?.engine.openRequests).toBe(0);
    expect(await (await app.request("/metrics")).text()).toContain(
      `weft_client_disconnects_total{phase="${phase}"} 1`,
    );
  });
});

describe("a stream whose reader cancels", () => {
  it("has its request cancelled", async () => {
    const { chat, engine } = createTestApp();
    engine.script = { kind: "accept" };
    const response = await chat({ stream: true });
    const cancelled = engine.until(() => engine.cancels.length === 1);
    await response.body?.cancel();
    await cancelled;
    expect(engine.cancels).toEqual(["chatcmpl-2"]);
  });

  it("row 5: after the finish counts as answered", async () => {
    const { chat, engine, log } = createTestApp();
    engine.script = sayThenStop("", EOS);
    const reader = (await chat({ stream: true })).body?.getReader();
    await reader?.read();
    await reader?.cancel();
    expect(log.at(-1)?.fields).toMatchObject({ outcome: "ok" });
    expect(engine.cancels).toEqual([]);
  });
});

describe("a socket", () => {
  it("that closes cancels every request pipelined on it, and carries eight at most", async () => {
    const server = await listenTestApp();
    const { engine, log } = server;
    engine.script = { kind: "accept" };
    const client = connect(server.port, "127.0.0.1");
    client.write(rawRequest(BODY).repeat(10));
    await engine.until(() => engine.submits.length === 8);
    const refused = (): unknown[] =>
      log.filter(({ fields }) => fields["error"] === "too_many_requests_on_connection");
    while (refused().length < 2) await new Promise((resolve) => setImmediate(resolve));
    const cancelled = engine.until(() => engine.cancels.length === 8);
    client.destroy();
    await cancelled;
    expect(engine.submits).toHaveLength(8);
    await server.close();
  });

  it("that drops during a stream cancels it", async () => {
    const server = await listenTestApp();
    const { engine } = server;
    engine.script = { kind: "accept" };
    const client = connect(server.port, "127.0.0.1");
    client.write(rawRequest(BODY.replace("{", '{"stream":true,')));
    await engine.until(() => engine.submits.length === 1);
    const cancelled = engine.until(() => engine.cancels.length === 1);
    client.once("data", () => client.destroy());
    await cancelled;
    expect(engine.cancels).toHaveLength(1);
    await server.close();
  });

  it("keeps no listener of a request that is over", async () => {
    const server = await listenTestApp();
    server.engine.script = sayThenStop("Hello", EOS);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const listeners: (number | undefined)[] = [];
    for (let i = 0; i < 6; i++) {
      const body = JSON.stringify({ ...(JSON.parse(BODY) as object), stream: i % 2 === 0 });
      await exchange(`${server.baseURL}/v1/chat/completions`, agent, body);
      listeners.push(server.sockets[0]?.listenerCount("close"));
    }
    agent.destroy();
    expect(server.sockets).toHaveLength(1);
    expect(listeners).toEqual(listeners.map(() => listeners[0]));
    await server.close();
  });
});
