/** A server on loopback that answers as a test wants: whole streams, broken ones, refusals. */
import { createServer } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface ScriptedServer {
  readonly url: string;
  /** Bodies of the completion requests so far, parsed. */
  readonly bodies: readonly Record<string, unknown>[];
  /** Headers of those. */
  readonly headers: readonly IncomingHttpHeaders[];
  /** Texts that it has been asked to tokenize. */
  readonly tokenized: readonly string[];
  close(): Promise<void>;
}

/** Answers a chat or text completion; `body` is the parsed request. */
export type Answer = (response: ServerResponse, body: Record<string, unknown>) => void;

/** Tokenizes as one token per word; lists the model `scripted`. */
export async function startScriptedServer(answer: Answer): Promise<ScriptedServer> {
  const bodies: Record<string, unknown>[] = [];
  const headers: IncomingHttpHeaders[] = [];
  const tokenized: string[] = [];
  const server = createServer((request, response) => {
    void readBody(request).then((text) => {
      if (request.url === "/v1/models") return sendJson(response, 200, { data: [{ id: "scripted" }] });
      const body = JSON.parse(text) as Record<string, unknown>;
      if (request.url === "/tokenize") {
        tokenized.push(String(body["content"]));
        const words = String(body["content"]).split(" ");
        return sendJson(response, 200, { tokens: words.map((_, index) => index) });
      }
      bodies.push(body);
      headers.push(request.headers);
      return answer(response, body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bodies,
    headers,
    tokenized,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

/** One SSE frame. */
export function frame(payload: unknown): string {
  return `data: ${typeof payload === "string" ? payload : JSON.stringify(payload)}\n\n`;
}

export function contentChunk(content: string): unknown {
  return { choices: [{ index: 0, delta: { content }, finish_reason: null }] };
}

export const ROLE_CHUNK = { choices: [{ index: 0, delta: { role: "assistant" }, finish_reason: null }] };
export const FINISH_CHUNK = { choices: [{ index: 0, delta: {}, finish_reason: "length" }] };

export function usageChunk(promptTokens: number, outputTokens: number, cachedTokens: number): unknown {
  return {
    choices: [],
    usage: {
      prompt_tokens: promptTokens,
      completion_tokens: outputTokens,
      prompt_tokens_details: { cached_tokens: cachedTokens },
    },
  };
}

/** A complete stream of as many tokens as the request asks for. */
export const answerWhole: Answer = (response, body) => {
  const outputTokens = Number(body["max_tokens"]);
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(
    [
      frame(ROLE_CHUNK),
      ...Array.from({ length: outputTokens }, () => frame(contentChunk("x"))),
      frame(FINISH_CHUNK),
      frame(usageChunk(10, outputTokens, 4)),
      frame("[DONE]"),
    ].join(""),
  );
};

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString("utf8");
}
