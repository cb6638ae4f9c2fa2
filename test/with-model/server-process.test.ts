/** The built server as a process: how it ends, by itself, when asked and by force, and with which exit code. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { childrenOf, processesGone, retry, runServer, startServer } from "../support/server.ts";
import { begunStream } from "../support/begun-stream.ts";
import { readStream } from "../support/sse-reader.ts";

const directory = mkdtempSync(join(tmpdir(), "weft-server-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** The status, or "refused" when nobody listens any more. */
async function statusOf(call: Promise<Response>): Promise<number | "refused"> {
  try {
    const response = await call;
    await response.text();
    return response.status;
  } catch (error) {
    expect(error).toMatchObject({ cause: { code: expect.stringMatching(/^ECONN(?:REFUSED|RESET)$/) } });
    return "refused";
  }
}

describe("the end of a server", () => {
  test("after SIGTERM the running stream is finished, new requests are refused, and the exit code is 0", async () => {
    const server = await startServer();
    const engines = await childrenOf(server.pid);
    const events = await begunStream(server);
    const finished = readStream(events);
    const exit = server.stop();
    const ready = (): Promise<number | "refused"> => statusOf(fetch(`${server.url}/ready`));
    await retry("the end of readiness", ready, (status) => status !== 200);
    const body = { model: "pocket", prompt: "1, 2, 3,", max_tokens: 1 };
    expect([503, "refused"]).toContain(await statusOf(server.post("/v1/completions", body)));
    expect(await finished).toMatchObject({ finishReason: "length", completionTokens: 800, done: true });
    expect(await exit).toBe(0);
    await processesGone(engines);
  });

  test("a server that is killed takes its engine with it", async () => {
    const server = await startServer();
    const engines = await childrenOf(server.pid);
    expect(engines).toHaveLength(1);
    const cut = readStream(await begunStream(server));
    await Promise.all([expect(cut).rejects.toThrow("terminated"), server.kill()]);
    await processesGone(engines);
  });
});

test("a server makes prompts with the template that it is given", async () => {
  const file = join(directory, "plain.jinja");
  writeFileSync(file, "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}> ");
  const server = await startServer("--chat-template", file);
  const response = await server.post("/apply-template", { messages: [{ role: "user", content: "Hello" }] });
  expect(await response.json()).toMatchObject({ prompt: "[user] Hello\n> " });
  expect(await server.stop()).toBe(0);
});

describe("a server that cannot start", () => {
  test("exits with 5 on a port that is taken", async () => {
    const server = await startServer();
    const { port } = new URL(server.url);
    expect(await runServer("--port", port)).toEqual({
      code: 5,
      stderr: `weft: Port ${port} is in use; stop the other server or choose another with --port.\n`,
    });
    expect(await server.stop()).toBe(0);
  });

  test("exits with 3 when the model's file does not exist", async () => {
    const { code, stderr } = await runServer("--port", "0", "--model", "nosuch.gguf");
    expect(code).toBe(3);
    expect(stderr).toMatch(/^weft: .*nosuch\.gguf/);
  });

  test("exits with 3 when the model's file is a text", async () => {
    const file = join(directory, "text.gguf");
    writeFileSync(file, "This is no model.\n");
    const { code, stderr } = await runServer("--port", "0", "--model", file);
    expect(code).toBe(3);
    expect(stderr).toMatch(/^weft: .*text\.gguf/);
  });

  test("exits with 2 when the chat template cannot be read", async () => {
    const { code, stderr } = await runServer("--port", "0", "--chat-template", "nosuch.jinja");
    expect(code).toBe(2);
    expect(stderr).toMatch(/^weft: The chat template nosuch\.jinja cannot be read \(ENOENT/);
  });

  test("exits with 2 when the draft model has another vocabulary", async () => {
    const file = join(directory, "other.gguf");
    const bytes = readFileSync("models/pocket-draft.gguf");
    const word = bytes.indexOf("Paris");
    bytes.write("Qaris", word);
    writeFileSync(file, bytes);
    const { code, stderr } = await runServer("--port", "0", "--draft-model", file, "--speculation", "on");
    expect(stderr).toMatch(
      /^weft: The draft model other\.gguf has another vocabulary than Pocket: token \d+ is ".?Qaris", not ".?Paris"\. Choose/,
    );
    expect(code).toBe(2);
  });

  test("exits with 2 when a draft model would never be used, and says what to do", async () => {
    const { code, stderr } = await runServer("--port", "0", "--draft-model", "pocket-draft");
    expect(stderr).toMatch(
      /^weft: The draft model pocket-draft\.gguf would never be used: .* Add --speculation on/,
    );
    expect(code).toBe(2);
  });

  test("exits with 3 when the draft model's file does not exist", async () => {
    const { code, stderr } = await runServer(
      "--port",
      "0",
      "--draft-model",
      "nosuch.gguf",
      "--speculation",
      "on",
    );
    expect(stderr).toMatch(/^weft: .*nosuch\.gguf/);
    expect(code).toBe(3);
  });

  test("exits with 2 on an option it does not know", async () => {
    const { code, stderr } = await runServer("--bogus");
    expect(code).toBe(2);
    expect(stderr).toContain("--bogus");
  });
});
