import { describe, expect, it } from "vitest";
import type { LoadedModel } from "../../../models/loaded-model.ts";
import { ownCommand } from "../../../models/command-line/own-command.ts";
import { banner } from "../../../src/cli/banner.ts";
import { LoadingLines } from "../../../src/cli/loading-lines.ts";
import { terminalProgress } from "../../../src/cli/terminal-progress.ts";
import { createLog } from "../../../src/log.ts";

function target(isTTY: boolean) {
  const written: string[] = [];
  return { isTTY, written, write: (text: string) => written.push(text) };
}

describe("a download's progress", () => {
  it("moves one line on a terminal", () => {
    const out = target(true);
    const progress = terminalProgress(out);
    progress.note("tiny: fetching");
    progress.progress(0, 2e6);
    progress.progress(1, 2e6);
    progress.progress(1e6, 2e6);
    progress.note("tiny: done");
    expect(out.written.join("")).toBe(
      "tiny: fetching\n\r  0%  0.0 MB of 2.0 MB\r 50%  1.0 MB of 2.0 MB\ntiny: done\n",
    );
  });

  it("is a line now and then elsewhere", () => {
    const out = target(false);
    const progress = terminalProgress(out);
    for (let percent = 0; percent <= 100; percent++) progress.progress(percent * 1e6, 100e6);
    expect(out.written.length).toBe(11);
    expect(out.written[1]).toBe(" 10%  10.0 MB of 100.0 MB\n");
  });

  it("of unknown size is not shown", () => {
    const out = target(false);
    terminalProgress(out).progress(5, 0);
    expect(out.written).toEqual([]);
  });
});

describe("while models load", () => {
  function shown(isTTY: boolean): string {
    const out = target(isTTY);
    const lines = new LoadingLines(out);
    lines.begin("1.2.3", "http://127.0.0.1:9338");
    for (const model of ["pocket", "smollm2"])
      for (const ratio of [0, 0.001, 0.5, 0.5, 1, 1]) lines.progress(model, ratio);
    lines.end();
    lines.progress("pocket", 0);
    return out.written.join("");
  }

  it("the server says where it is, what it loads, and that it measures", () => {
    expect(shown(false)).toBe(`Weft 1.2.3
  address  http://127.0.0.1:9338, where requests get 503 until it is ready
  loading  pocket
  measure  how fast this machine computes pocket
  loading  smollm2
  measure  how fast this machine computes smollm2
`);
  });

  it("a terminal shows how far it is", () => {
    expect(shown(true).replaceAll("\r", "<")).toBe(`Weft 1.2.3
  address  http://127.0.0.1:9338, where requests get 503 until it is ready
<  loading  pocket, 0 %<  loading  pocket, 50 %<  loading  pocket, 100 %
  measure  how fast this machine computes pocket
<  loading  smollm2, 0 %<  loading  smollm2, 50 %<  loading  smollm2, 100 %
  measure  how fast this machine computes smollm2
`);
  });

  it("nothing stands in the middle of a line when loading has failed", () => {
    const out = target(true);
    const lines = new LoadingLines(out);
    lines.progress("pocket", 0.25);
    lines.end();
    expect(out.written.join("")).toBe("\r  loading  pocket, 25 %\n");
  });
});

describe("the log", () => {
  it("is JSON for machines", () => {
    const out = target(false);
    createLog({ level: "info", format: "auto" }, out).info({ model: "m" }, "loaded");
    expect(JSON.parse(out.written.join(""))).toEqual({
      level: 30,
      time: expect.any(Number),
      model: "m",
      msg: "loaded",
    });
  });

  it("is one line per event for people, which no field can forge", () => {
    const out = target(true);
    const log = createLog({ level: "info", format: "auto" }, out);
    log.warn({ path: "/a\n00:00:00 info  forged\u001b[2J", ms: 3 }, "request\rx");
    expect(out.written.length).toBe(1);
    expect(out.written[0]?.slice(9)).toBe(
      String.raw`warn  request\rx path=/a\n00:00:00 info  forged\u001b[2J ms=3` + "\n",
    );
  });

  it("keeps quiet below its level", () => {
    const out = target(true);
    createLog({ level: "warn", format: "text" }, out).info({}, "hello");
    expect(out.written).toEqual([]);
  });
});

describe("a command of ours", () => {
  it("is written as it works: through npm in a checkout, by its name where it is installed", () => {
    const checkout = { npm_package_name: "weft" };
    expect(ownCommand("serve --model smollm2", checkout)).toBe("npm start -- --model smollm2");
    expect(ownCommand("doctor", checkout)).toBe("npm run weft -- doctor");
    expect(ownCommand("serve --model smollm2", {})).toBe("weft serve --model smollm2");
    expect(ownCommand("doctor", { npm_package_name: "my-app" })).toBe("weft doctor");
  });
});

describe("the banner", () => {
  const facts = {
    architecture: "llama",
    parameters: 1_000_576,
    sizeBytes: 2_003_456,
    slots: 8,
    contextTokens: 4096,
    contextBytes: 55_300_000,
    device: "CPU, 2 threads",
    loadMs: 940,
  };
  const pocket = { id: "pocket", facts, template: {}, adapters: [] } as unknown as LoadedModel;

  it("says what runs where, and how to try it", () => {
    const text = banner({
      models: [pocket],
      url: "http://127.0.0.1:9338",
      keys: 0,
      embeddedModel: "pocket",
      realModel: "npm start -- --model smollm2",
    });
    expect(text).toBe(`  model    pocket (llama, 1.0 M parameters, 2.0 MB)
  slots    8 × 4096 tokens, 55.3 MB of memory
  device   CPU, 2 threads, loaded in 0.9 s
  note     a tiny test model; for real answers try "npm start -- --model smollm2", or a .gguf file there
  ready    http://127.0.0.1:9338/v1 (no API key)

  curl http://127.0.0.1:9338/v1/chat/completions -H 'content-type: application/json' -d '{"model":"pocket","messages":[{"role":"user","content":"Hello"}]}'
  new OpenAI({ baseURL: "http://127.0.0.1:9338/v1", apiKey: "none" })
`);
  });

  it("names the draft model and what it takes", () => {
    const draft = { name: "Pocket Draft", parameters: 180_416, sizeBytes: 400_000, contextBytes: 8_600_000 };
    const text = banner({
      models: [{ ...pocket, facts: { ...facts, draft } } as LoadedModel],
      url: "http://127.0.0.1:9338",
      keys: 0,
      embeddedModel: "pocket",
      realModel: "npm start -- --model smollm2",
    });
    expect(text).toContain(
      "tokens, 55.3 MB of memory\n  device   CPU, 2 threads, loaded in 0.9 s\n  draft    Pocket Draft (0.2 M parameters, 0.4 MB), 8.6 MB of memory\n",
    );
  });

  it("says where computed prompts are kept, and how much they may take", () => {
    const kept = { directory: "/dev/shm", inMemory: true, limitBytes: 1_900_000_000 };
    const linesOf = (spill: object): string[] =>
      banner({
        models: [{ ...pocket, facts: { ...facts, spill } } as LoadedModel],
        url: "http://127.0.0.1:9338",
        keys: 0,
        embeddedModel: "pocket",
        realModel: "npm start -- --model smollm2",
      }).split("\n");
    expect(linesOf(kept)).toContain(
      "  prompts  computed ones are kept for their clients, up to 1.9 GB of memory",
    );
    expect(linesOf({ ...kept, directory: "/var/weft", inMemory: false })).toContain(
      "  prompts  computed ones are kept for their clients, up to 1.9 GB in /var/weft",
    );
  });

  it("says how much checkpoints may take of a model that needs them", () => {
    const shown = banner({
      models: [{ ...pocket, facts: { ...facts, checkpointBytes: 1_500_000_000 } } as LoadedModel],
      url: "http://127.0.0.1:9338",
      keys: 0,
      embeddedModel: "pocket",
      realModel: "npm start -- --model smollm2",
    });
    expect(shown.split("\n")).toContain("  states   checkpoints of prompts are kept, up to 1.5 GB of memory");
  });

  it("notes a context beyond what the model was trained with", () => {
    const notesOf = (contextTokens: number): string[] =>
      banner({
        models: [{ ...pocket, facts: { ...facts, contextTokens, trainContextTokens: 8192 } } as LoadedModel],
        url: "http://127.0.0.1:9338",
        keys: 0,
        embeddedModel: "none",
        realModel: "weft serve smollm2",
      })
        .split("\n")
        .filter((line) => line.startsWith("  note "));
    expect(notesOf(8193)).toEqual([
      "  note     it was trained with texts of up to 8192 tokens: beyond them answers get worse",
    ]);
    expect(notesOf(8192)).toEqual([]);
  });

  it("never shows a key, and completes where there is no template", () => {
    const text = banner({
      models: [{ ...pocket, id: "it's", template: undefined }],
      url: "http://[::1]:1",
      keys: 2,
      embeddedModel: "pocket",
      realModel: "npm start -- --model smollm2",
    });
    expect(text).toContain("  note     no chat template: it serves /v1/completions only\n");
    expect(text).toContain("  ready    http://[::1]:1/v1 (2 API keys)\n");
    expect(text).toContain(
      String.raw`/v1/completions -H 'content-type: application/json' -H 'authorization: Bearer YOUR_KEY' -d '{"model":"it'\''s","prompt":"Once upon a time"}'`,
    );
  });
});
