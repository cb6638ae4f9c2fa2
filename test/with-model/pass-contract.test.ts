/** The pass model against llama.cpp's own account of how it split each batch. */
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";

/** One pass is printed over several lines, some of which repeat for the whole batch before it is split. */
function passesOf(log: string): string[] {
  return log
    .split("added ubatch to split")
    .slice(1)
    .map((part) => {
      const each = /n_seq_tokens\s*=\s*(\d+)/.exec(part)?.[1];
      const slots = /seq_id_unq\s*=\s*\[\s*([\d ]+?)\s*\]/.exec(part)?.[1];
      return `${slots} x${each}`;
    });
}

test("llama.cpp splits every batch into the passes that the model predicts", async () => {
  const child = spawn(process.execPath, ["--import", "tsx", "test/support/pass-probe.ts"], {
    env: { ...process.env, LLAMA_BATCH_DEBUG: "1", WEFT_RUNTIME_LOG: "debug" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [predicted, log] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const expected = predicted.trim().split("\n");
  expect(expected.length).toBeGreaterThan(100);
  expect(passesOf(log).slice(-expected.length)).toEqual(expected);
});
