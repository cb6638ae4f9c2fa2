/**
 * `encrypted_content` of reasoning items: what a client that stores nothing here hands back with its next request.
 * To clients it is opaque; there is nothing in it that they have not been sent, so it is packed, not encrypted.
 */

const MARK = "weft-reasoning:";

export function packReasoning(text: string): string {
  return Buffer.from(MARK + text).toString("base64");
}

/** Undefined for what another server has packed. */
export function unpackReasoning(packed: string): string | undefined {
  const text = Buffer.from(packed, "base64").toString("utf8");
  return text.startsWith(MARK) ? text.slice(MARK.length) : undefined;
}
