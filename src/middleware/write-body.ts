/** Sends answers that write their own body: the head with all that the other middlewares put into it, then the body. */
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { createMiddleware } from "hono/factory";
import type { HttpBindings } from "@hono/node-server";
import type { AppContext, AppEnv } from "../routes/env.ts";

/** Mounted before all others, so that it comes after them. */
export const writeBody = createMiddleware<AppEnv>(async (c, next) => {
  await next();
  const write = c.get("writeBody");
  const outgoing = socketOf(c);
  if (write === undefined || outgoing === undefined) return;
  outgoing.writeHead(c.res.status, Object.fromEntries(c.res.headers));
  outgoing.flushHeaders();
  write(outgoing);
  // Without what was there, whose headers would be copied into an answer that looks unsent.
  c.res = undefined;
  c.res = RESPONSE_ALREADY_SENT;
});

/** Where an answer can be written to; undefined for an application that runs without a server. */
export function socketOf(c: AppContext): HttpBindings["outgoing"] | undefined {
  const env: Partial<HttpBindings> | undefined = c.env;
  return env?.outgoing;
}
