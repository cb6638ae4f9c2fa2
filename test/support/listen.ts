/** The application on a real loopback port, for what only sockets can show. */
import type { Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { createTestApp } from "./test-app.ts";
import type { TestAppOptions } from "./test-app.ts";

export async function listenTestApp(options: TestAppOptions = {}) {
  const test = createTestApp(options);
  const server = createAdaptorServer({ fetch: test.app.fetch }) as Server;
  const sockets: Socket[] = [];
  server.on("connection", (socket) => sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    ...test,
    port,
    baseURL: `http://127.0.0.1:${port}`,
    /** The server's side of the connections so far. */
    sockets,
    async close(): Promise<void> {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
