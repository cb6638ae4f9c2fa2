/** One client of a soak: asks, reads the answer to its end and judges it, or leaves in the middle. */
import { request } from "node:http";
import type { Agent, IncomingMessage } from "node:http";
import { expect } from "vitest";
import { errorOf } from "./abused-server.ts";
import type { Answer } from "./abused-server.ts";

export interface Visit {
  readonly path: string;
  readonly body: unknown;
  /** Judges an answer that came whole. */
  readonly check: (answer: Answer) => void;
  /** After so many turns of the event loop, or when told to, the client leaves; undefined: it stays. */
  readonly leaves: number | AbortSignal | undefined;
}

/** @returns How it ended: `ok`, `full`, or `left`. */
export function pay(port: number, agent: Agent, { path, body, check, leaves }: Visit): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json" };
    const sent = request({ port, host: "127.0.0.1", method: "POST", path, headers, agent });
    let hasLeft = false;
    const leave = (): void => {
      hasLeft = true;
      sent.destroy();
    };
    const leaveAfter = (turns: number): void => {
      if (turns === 0) leave();
      else setImmediate(leaveAfter, turns - 1);
    };
    sent.once("close", () => {
      if (typeof leaves === "object") leaves.removeEventListener("abort", leave);
      resolve("left");
    });
    sent.once("error", (error) => (hasLeft ? resolve("left") : reject(error)));
    sent.once("response", (response: IncomingMessage) => {
      let text = "";
      response.setEncoding("utf8").on("data", (piece) => (text += String(piece)));
      response.once("error", (error) => (hasLeft ? resolve("left") : reject(error)));
      response.once("end", () => {
        const answer = { status: response.statusCode ?? 0, headers: response.headers, text };
        try {
          if (answer.status === 503) expect(errorOf(answer, 503).code).toBe("server_overloaded");
          else check(answer);
          resolve(answer.status === 503 ? "full" : "ok");
        } catch (error) {
          reject(new Error(`${path} ${JSON.stringify(body).slice(0, 300)}`, { cause: error }));
        }
      });
    });
    sent.end(typeof body === "string" ? body : JSON.stringify(body));
    if (typeof leaves === "number") setImmediate(leaveAfter, leaves);
    else if (leaves !== undefined) leaves.addEventListener("abort", leave, { once: true });
  });
}
