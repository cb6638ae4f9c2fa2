/**
 * A load balancer in front of replicas: asks each whether it is ready, keeps connections to it, and never sends a
 * request twice, so that whatever a replica does to a request is what its client sees.
 */
import { once } from "node:events";
import { Agent, createServer, request } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";

/** A replica that has failed this is out at once, and in again when it passes. */
const CHECK_MS = 50;

interface Replica {
  readonly port: number;
  isReady: boolean;
  /** Requests without a whole answer. */
  open: number;
  /** Requests that were sent to it. */
  sent: number;
}

export interface Balancer {
  readonly url: string;
  /** Requests that each replica was sent. */
  readonly sent: () => number[];
  /** Resolves when it sends requests to this many replicas. */
  readonly untilReady: (count: number) => Promise<void>;
  close(): void;
}

export async function startBalancer(ports: readonly number[]): Promise<Balancer> {
  const replicas: Replica[] = ports.map((port) => ({ port, isReady: false, open: 0, sent: 0 }));
  const agent = new Agent({ keepAlive: true });
  const server = createServer((incoming, outgoing) => {
    const ready = replicas.filter(({ isReady }) => isReady);
    // The least busy one, and of these the one that has had fewest.
    const [replica] = ready.sort((a, b) => a.open - b.open || a.sent - b.sent);
    if (replica === undefined) return void outgoing.writeHead(502).end("no replica is ready");
    forward(replica, agent, incoming, outgoing);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const closing = new AbortController();
  const checks = replicas.map(async (replica) => {
    while (!closing.signal.aborted) {
      replica.isReady = await passes(replica.port);
      await wait(CHECK_MS, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    sent: () => replicas.map(({ sent }) => sent),
    async untilReady(count) {
      while (replicas.filter((replica) => replica.isReady).length !== count) await wait(CHECK_MS);
    },
    close() {
      closing.abort();
      agent.destroy();
      server.closeAllConnections();
      server.close();
      void Promise.all(checks);
    },
  };
}

function forward(replica: Replica, agent: Agent, incoming: IncomingMessage, outgoing: ServerResponse): void {
  const { method, url, headers } = incoming;
  replica.open += 1;
  replica.sent += 1;
  outgoing.once("close", () => (replica.open -= 1));
  const onward = request({ host: "127.0.0.1", port: replica.port, agent, method, path: url, headers });
  onward.on("response", (answer) => {
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(outgoing);
    answer.on("error", () => outgoing.destroy());
  });
  onward.on("error", (error) => {
    if (outgoing.headersSent) outgoing.destroy();
    else outgoing.writeHead(502).end(`the replica broke off: ${error.message}`);
  });
  incoming.pipe(onward);
}

async function passes(port: number): Promise<boolean> {
  const check = request({ host: "127.0.0.1", port, path: "/ready", agent: false, timeout: 2000 });
  check.end();
  try {
    const [answer] = (await once(check, "response")) as [IncomingMessage];
    answer.resume();
    return answer.statusCode === 200;
  } catch {
    return false;
  }
}
