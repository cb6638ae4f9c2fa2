/** Stored responses over the end of one server and the start of the next. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { retry, startServer } from "../support/server.ts";
import type { RunningServer } from "../support/server.ts";

interface ResponseJson {
  readonly id: string;
  readonly status: string;
  readonly output: readonly { readonly status: string }[];
}

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "weft-responses-"));
});

afterAll(() => rm(folder, { recursive: true }));

const create = async (server: RunningServer, fields: object): Promise<ResponseJson> => {
  const reply = await server.post("/v1/responses", { temperature: 0, ...fields });
  expect(reply.status).toBe(200);
  return (await reply.json()) as ResponseJson;
};

const read = async (server: RunningServer, id: string): Promise<ResponseJson> =>
  (await (await fetch(`${server.url}/v1/responses/${id}`)).json()) as ResponseJson;

describe("a server with a file for responses", () => {
  it("row 126: cancels what runs in the background when it ends, and the next one knows all of it", async () => {
    const args = ["--responses-store", join(folder, "responses.jsonl")];
    const first = await startServer(...args);
    const answered = await create(first, { input: "My name is Bob." });
    const endless = await create(first, {
      input: "Count from 1 to 100.",
      background: true,
      ignore_eos: true,
    });
    const running = await retry(
      "the background response to begin",
      () => read(first, endless.id),
      ({ status }) => status === "in_progress",
    );
    expect(running.output).toMatchObject([{ status: "in_progress" }]);
    expect(await first.stop()).toBe(0);

    const second = await startServer(...args);
    expect(await read(second, answered.id)).toEqual(answered);
    expect(await read(second, endless.id)).toMatchObject({
      status: "cancelled",
      output: [{ status: "incomplete" }],
    });
    const next = await create(second, { input: "What is my name?", previous_response_id: answered.id });
    expect(next).toMatchObject({ output: [{ content: [{ text: "Your name is Bob." }] }] });
    expect(await second.stop()).toBe(0);
  });
});
