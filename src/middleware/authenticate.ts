/**
 * Lets a request in by its key and names its owner. What the operator looks at has keys of its own, if there are
 * any; without configured keys everybody is let in.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { createMiddleware } from "hono/factory";
import type { ApiKey, AppConfig } from "../deps.ts";
import { ApiError } from "../openai/api-error.ts";
import type { AppContext, AppEnv } from "../routes/env.ts";

/** What load balancers ask without a key, and people before they have one: a state, and where to go on. */
export const OPEN_PATHS: ReadonlySet<string> = new Set([
  "/",
  "/health",
  "/healthz",
  "/livez",
  "/ready",
  "/readyz",
]);

/** What tells of everybody's requests, or changes the server: state, numbers, settings and what else looks inside. */
const MANAGEMENT = /^\/(?:slots|metrics|props|debug|admin)(?:\/|$)/;

/** What only tells users which models they may ask for, but changes the answers of others when it is posted to. */
const CHANGES_FOR_ALL = /^\/lora-adapters(?:\/|$)/;

/** What users see of their own requests, and admins of everybody's. */
const REQUESTS = /^\/requests(?:\/|$)/;

/** What both kinds of keys may read: which models there are, and what they are served with. */
const LISTS = /^\/(?:models|lora-adapters)(?:\/|$)/;

export const authenticate = ({ apiKeys, adminKeys }: AppConfig) => {
  const users = withDigests(apiKeys);
  const admins = withDigests(adminKeys);
  return createMiddleware<AppEnv>(async (c, next) => {
    const isManagement = admins.length > 0 && isManaging(c);
    const isShared = isForBoth(c);
    const known = isManagement ? admins : isShared && users.length > 0 ? [...users, ...admins] : users;
    if (known.length > 0 && !OPEN_PATHS.has(c.req.path)) {
      const given = givenKey(c);
      if (given === undefined) throw noKey();
      const digest = createHash("sha256").update(given).digest();
      const owner = ownerOf(digest, known);
      if (owner === undefined) {
        const others = isManagement ? users : admins;
        throw ownerOf(digest, others) === undefined ? wrongKey(given) : otherKind(isManagement);
      }
      c.set("owner", owner);
      c.set("admin", ownerOf(digest, admins) !== undefined);
    }
    await next();
  });
};

/** Whether who is let in may see and change what is other users' too: among several, only admins may. */
export function mayActForAll({ apiKeys, adminKeys }: AppConfig): boolean {
  return adminKeys.length > 0 || apiKeys.length <= 1;
}

function isManaging({ req: { path, method } }: AppContext): boolean {
  return MANAGEMENT.test(path) || (method === "POST" && CHANGES_FOR_ALL.test(path));
}

function isForBoth({ req: { path, method } }: AppContext): boolean {
  return REQUESTS.test(path) || ((method === "GET" || method === "HEAD") && LISTS.test(path));
}

interface KnownKey {
  readonly name: string;
  readonly digest: Buffer;
}

function withDigests(keys: readonly ApiKey[]): KnownKey[] {
  return keys.map(({ name, sha256 }) => ({ name, digest: Buffer.from(sha256, "hex") }));
}

function ownerOf(digest: Buffer, known: readonly KnownKey[]): string | undefined {
  let owner: string | undefined;
  // All of them, always: the time tells nothing about which one matched.
  for (const key of known) {
    if (key.digest.length === digest.length && timingSafeEqual(key.digest, digest)) owner = key.name;
  }
  return owner;
}

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

/** The key is a good one, for something else. */
function otherKind(isManagement: boolean): ApiError {
  return new ApiError(
    "key_not_allowed",
    isManagement
      ? "This key is not for the management of the server. You need to use an admin key."
      : "An admin key is for the management of the server alone. You need to use an API key.",
  );
}

/** Enough to recognise one's own key, too little to use it. */
function masked(key: string): string {
  if (key.length < 16) return "***";
  return `${key.slice(0, 3)}***${key.slice(-4)}`.replace(/[^\x21-\x7e]/g, "?");
}
