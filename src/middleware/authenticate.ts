/** Lets a request in by its API key and names its owner; without configured keys everybody is let in. */
import { createHash, timingSafeEqual } from "node:crypto";
import { createMiddleware } from "hono/factory";
import type { ApiKey } from "../deps.ts";
import { ApiError } from "../openai/api-error.ts";
import type { AppContext, AppEnv } from "../routes/env.ts";

/** What load balancers ask without a key; they tell a state and nothing else. */
export const OPEN_PATHS: ReadonlySet<string> = new Set([
  "/health",
  "/healthz",
  "/livez",
  "/ready",
  "/readyz",
]);

export const authenticate = (keys: readonly ApiKey[]) => {
  const known = keys.map(({ name, sha256 }) => ({ name, digest: Buffer.from(sha256, "hex") }));
  return createMiddleware<AppEnv>(async (c, next) => {
    if (known.length > 0 && !OPEN_PATHS.has(c.req.path)) {
      const given = givenKey(c);
      if (given === undefined) throw noKey();
      const digest = createHash("sha256").update(given).digest();
      let owner: string | undefined;
      // All of them, always: the time tells nothing about which one matched.
      for (const key of known) {
        if (key.digest.length === digest.length && timingSafeEqual(key.digest, digest)) owner = key.name;
      }
      if (owner === undefined) throw wrongKey(given);
      c.set("owner", owner);
    }
    await next();
  });
};

function givenKey(c: AppContext): string | undefined {
  const bearer = /^bearer +(\S.*)$/i.exec(c.req.header("authorization") ?? "")?.[1]?.trim();
  return bearer ?? c.req.header("x-api-key") ?? c.req.header("api-key");
}

function noKey(): ApiError {
  return new ApiError(
    "invalid_api_key",
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer " +
      "auth (i.e. Authorization: Bearer YOUR_KEY).",
    undefined,
    { headers: { "www-authenticate": "Bearer" } },
  );
}

function wrongKey(given: string): ApiError {
  return new ApiError("invalid_api_key", `Incorrect API key provided: ${masked(given)}.`, undefined, {
    headers: { "www-authenticate": "Bearer" },
  });
}

/** Enough to recognise one's own key, too little to use it. */
function masked(key: string): string {
  if (key.length < 16) return "***";
  return `${key.slice(0, 3)}***${key.slice(-4)}`.replace(/[^\x21-\x7e]/g, "?");
}
