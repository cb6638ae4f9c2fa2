/** Tells a client again that comes back after a refusal. */
import { createHash } from "node:crypto";
import type { SubmitCommand } from "./protocol.ts";

/**
 * Clients send the same request again, under another id, on any connection and with nothing that says so. Whoever asks
 * the same under the same key cannot be told apart, and need not be.
 */
export function visitorOf({
  prompt,
  params,
  cacheScope = "",
}: Pick<SubmitCommand, "prompt" | "params" | "cacheScope">): string {
  const hash = createHash("sha1").update(`${params.maxTokens} ${cacheScope.length} ${cacheScope}`);
  for (const part of prompt) {
    if ("text" in part) hash.update(`text ${part.text.length} `).update(part.text);
    else hash.update(`tokens ${part.tokens.length} `).update(Uint32Array.from(part.tokens));
  }
  return hash.digest("base64");
}
