/**
 * Keeps web pages that the operator does not know away from a server on the same machine: by the Host they
 * use (DNS rebinding) and by the Origin they come from. Also answers what browsers ask before a request (CORS).
 */
import { cors } from "hono/cors";
import { createMiddleware } from "hono/factory";
import type { AppConfig } from "../deps.ts";
import { ApiError } from "../openai/api-error.ts";
import { LIMIT_HEADERS } from "../openai/limit-headers.ts";
import { IGNORED_PARAMS_HEADER } from "../routes/answer.ts";
import type { AppEnv } from "../routes/env.ts";

/** Pages of applications on this machine; a website can never have them. */
const APP_SCHEMES = new Set([
  "app:",
  "capacitor:",
  "chrome-extension:",
  "file:",
  "moz-extension:",
  "tauri:",
  "vscode-webview:",
]);

/** What a page could not read otherwise: among it what clients decide by whether, and when, they ask again. */
const EXPOSED = [
  "x-request-id",
  "retry-after",
  "retry-after-ms",
  "x-should-retry",
  "openai-processing-ms",
  ...LIMIT_HEADERS,
  IGNORED_PARAMS_HEADER,
];

export const guardHost = (config: AppConfig) =>
  createMiddleware<AppEnv>(async (c, next) => {
    if (config.loopback && !isAllowedHost(c.req.header("host"), config)) {
      throw new ApiError(
        "host_not_allowed",
        "This server answers to the names of this machine only. The operator can allow other host names.",
      );
    }
    await next();
  });

/** Mounted before the keys: a browser asks without one. */
export const answerCors = (config: AppConfig) => {
  const answer = cors({
    origin: (origin, c) => (isAllowedOrigin(origin, c.req.header("host"), config) ? origin : null),
    allowMethods: ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"],
    exposeHeaders: EXPOSED,
    maxAge: 600,
  });
  return createMiddleware<AppEnv>(async (c, next) => {
    const preflight = await answer(c, next);
    // Some clients, and llama.cpp's own, take 200 alone for a yes.
    return preflight && new Response(null, { status: 200, headers: preflight.headers });
  });
};

/** CORS alone hides an answer from a page; the request would be carried out all the same. */
export const guardOrigin = (config: AppConfig) =>
  createMiddleware<AppEnv>(async (c, next) => {
    const origin = c.req.header("origin");
    if (origin !== undefined && !isAllowedOrigin(origin, c.req.header("host"), config)) {
      throw new ApiError(
        "origin_not_allowed",
        "Pages of this origin may not use this server. The operator can allow them.",
      );
    }
    await next();
  });

/** A missing Host comes from something older than browsers. */
function isAllowedHost(host: string | undefined, config: AppConfig): boolean {
  if (host === undefined) return true;
  const url = parseUrl(`http://${host}`);
  if (url === undefined) return false;
  return isLoopbackName(url.hostname) || config.allowedHosts.includes(url.hostname);
}

function isAllowedOrigin(origin: string, host: string | undefined, config: AppConfig): boolean {
  if (config.corsOrigins.includes("*") || config.corsOrigins.includes(origin)) return true;
  const url = parseUrl(origin);
  if (url === undefined) return false;
  if (APP_SCHEMES.has(url.protocol)) return true;
  if (url.protocol !== "http:" && url.protocol !== "https:") return false;
  return isLoopbackName(url.hostname) || url.host === host;
}

function isLoopbackName(name: string): boolean {
  return (
    name === "localhost" ||
    name.endsWith(".localhost") ||
    name === "[::1]" ||
    /^127(\.\d{1,3}){3}$/.test(name)
  );
}

function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined;
}
