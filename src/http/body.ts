/** Reads a request's JSON body: right kind, bounded size, never more in memory than the limit. */
import type { Limits } from "../config/limits.ts";
import { ApiError } from "../openai/api-error.ts";
import { parseJsonArray, parseJsonObject } from "./json.ts";
import { DISCARD_SILENCE_MS, MAX_DISCARDED_BYTES } from "./limits.ts";

const JSON_TYPE = /^application\/(?:[\w.-]+\+)?json$/;

/** @throws {ApiError} 413, 415, or what `parseJsonObject` throws. */
export async function readJsonObject(request: Request, limits: Limits): Promise<Record<string, unknown>> {
  return parseJsonObject(await readBytes(request, limits), limits);
}

/** @throws {ApiError} 413, 415, or what `parseJsonArray` throws. */
export async function readJsonArray(request: Request, limits: Limits): Promise<readonly unknown[]> {
  return parseJsonArray(await readBytes(request, limits), limits);
}

async function readBytes(request: Request, limits: Limits): Promise<Uint8Array> {
  checkHeaders(request.headers);
  const bytes = await readBounded(request, limits["max-body-bytes"]);
  if (bytes.length === 0) throw new ApiError("invalid_json", "The body of your request is empty.");
  return bytes;
}

function checkHeaders(headers: Headers): void {
  const encoding = headers.get("content-encoding");
  if (encoding !== null && encoding.toLowerCase() !== "identity") {
    throw new ApiError("unsupported_media_type", "A compressed body (Content-Encoding) is not supported.");
  }
  const type = headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
  // A browser page can post text/plain anywhere without asking; a command line often names no type at all.
  const missing = type === undefined || type === "";
  if (missing ? headers.has("origin") : !JSON_TYPE.test(type)) {
    throw new ApiError("unsupported_media_type", "The body must have the Content-Type application/json.");
  }
}

async function readBounded(request: Request, maxBytes: number): Promise<Uint8Array> {
  const { headers } = request;
  const announcedTooLarge = Number(headers.get("content-length") ?? 0) > maxBytes;
  // It waits for a word before it sends, which touching its body would give.
  if (announcedTooLarge && headers.has("expect")) throw tooLarge(maxBytes);
  if (request.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = request.body.getReader();
  if (announcedTooLarge) {
    await discard(reader);
    throw tooLarge(maxBytes);
  }
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      length += value.length;
      if (length > maxBytes) {
        chunks.length = 0;
        await discard(reader);
        throw tooLarge(maxBytes);
      }
      chunks.push(value);
    }
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError("client_closed", "The connection ended before the whole body arrived.");
  }
  return Buffer.concat(chunks, length);
}

/**
 * Reads on for a while and keeps nothing: a client that is cut off while it sends sees a broken connection
 * instead of the answer. Ends when the body does, at the bound, or when nothing comes any more.
 */
async function discard(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  let length = 0;
  try {
    while (length < MAX_DISCARDED_BYTES) {
      let timer: NodeJS.Timeout | undefined;
      const silence = new Promise<undefined>((resolve) => {
        timer = setTimeout(() => resolve(undefined), DISCARD_SILENCE_MS);
      });
      const chunk = await Promise.race([reader.read(), silence]);
      clearTimeout(timer);
      if (chunk === undefined || chunk.done) return;
      length += chunk.value.length;
    }
  } catch {
    // The client has gone; there is nobody left to answer.
  }
}

function tooLarge(maxBytes: number): ApiError {
  return new ApiError(
    "request_too_large",
    `The body is larger than ${maxBytes} bytes, the most this server accepts (--max-body-bytes).`,
    undefined,
    // The rest of the body is still coming: the connection cannot be used again.
    { headers: { connection: "close" } },
  );
}
