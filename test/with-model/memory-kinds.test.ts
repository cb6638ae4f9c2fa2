/** Models whose last tokens cannot be taken back at any time: what is reused of a slot is what a cold run computes. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadLlamaBackend } from "../../engine/llama/load.ts";
import type { Backend } from "../../engine/backend.ts";
import type { CostModel } from "../../engine/scheduler/types.ts";
import type { LoadOptions } from "../../engine/protocol.ts";
import { LOAD_OPTIONS, submitCommand } from "../support/engine.ts";
import { startLlamaEngine } from "../support/llama-engine.ts";
import { TINY_DECODERS, TINY_WINDOW, writeTinyDecoder } from "../support/tiny-gguf.ts";

const folder = mkdtempSync(join(tmpdir(), "weft-memory-kinds-"));
const fileOf = (kind: string): string => join(folder, `${kind}.gguf`);
beforeAll(() => {
  for (const kind of TINY_DECODERS) writeTinyDecoder(fileOf(kind), kind);
});
afterAll(() => rmSync(folder, { recursive: true }));

const optionsOf = (kind: string, extra: Partial<LoadOptions> = {}): LoadOptions => ({
  ...LOAD_OPTIONS,
  modelPath: fileOf(kind),
  slots: 3,
  contextTokens: 1024,
  prefillChunk: 32,
  threads: 1,
  speculate: undefined,
  ...extra,
});

interface Asked {
  readonly tokens: readonly number[];
  readonly cachedTokens: number;
}

/** So that plans do not depend on the machine: what they weigh differs by more than observed times can change it. */
const COST: CostModel = {
  decodePassMs: [0, 11, 12, 13],
  checkPassMs: [0, 1],
  prefillCallMs: 10,
  prefillTokenMs: 2,
  copyMs: 5,
  decodeScale: 1,
  draftScale: 1,
  prefillScale: 1,
  checkpoint: {
    fileBytes: 10_000,
    tokenBytes: 0,
    save: { callMs: 1e-3, byteMs: 0, scale: 1 },
    restore: { callMs: 1e-3, byteMs: 0, scale: 1 },
  },
};

/** An engine, and whole answers of it to prompts that are sent together. */
async function start(options: LoadOptions) {
  const engine = await startLlamaEngine(options, COST);
  let sent = 0;
  return {
    async ask(prompts: readonly (readonly number[])[], reusePrefix = true): Promise<Asked[]> {
      const params = { maxTokens: 20, ignoreEos: true, reusePrefix };
      const commands = prompts.map((prompt) => submitCommand(`r${++sent}`, prompt, params));
      return (await engine.ask(...commands)).map((outputs) => ({
        tokens: outputs.flatMap(({ tokens }) => [...tokens]),
        cachedTokens: outputs[0]?.start?.cachedTokens ?? 0,
      }));
    },
    stop: engine.stop,
  };
}

const text = (length: number, first = 0): number[] =>
  Array.from({ length }, (_, i) => 3 + ((first + i * 37) % 250));

describe.each(TINY_DECODERS)("%s", (kind) => {
  test.each([0, 1e8])(
    "answers are those of cold prompts, whatever is reused, cut or copied: checkpoints of %d bytes",
    async (checkpointBytes) => {
      const engine = await start(optionsOf(kind, { checkpoints: { bytes: checkpointBytes } }));
      const opening = text(300);
      const [first] = await engine.ask([opening]);
      const next = [...opening, ...(first?.tokens ?? []), ...text(40, 5)];
      const branch = [...opening.slice(0, 200), ...text(50, 9)];
      const edited = [...next.slice(0, -10), ...text(30, 11)];
      const warm = [
        ...(await engine.ask([next])),
        ...(await engine.ask([edited])),
        ...(await engine.ask([branch, branch, opening])),
        ...(await engine.ask([next, edited])),
      ];
      const cold: Asked[] = [];
      for (const prompt of [next, edited, branch, branch, opening, next, edited])
        cold.push(...(await engine.ask([prompt], false)));
      expect(warm.map(({ tokens }) => tokens)).toEqual(cold.map(({ tokens }) => tokens));
      expect(cold.map(({ cachedTokens }) => cachedTokens)).toEqual(cold.map(() => 0));
      // The next turn of a chat goes on where the last one ended; the model's begin token counts.
      expect(warm[0]?.cachedTokens).toBe(320);
      await engine.stop();
    },
  );

  const opening = text(300);
  const prompts = [text(90, 5), text(70, 9), text(110, 13), text(64, 17)].map((tail) => [
    ...opening,
    ...tail,
  ]);

  test("asked again, as it was and changed, a prompt goes on from its checkpoints as a cold one", async () => {
    const engine = await start(optionsOf(kind, { checkpoints: { bytes: 1e8 } }));
    const [again = []] = prompts;
    const asked = [again, again, [...again.slice(0, -10), 3, 4, 5]];
    const warm: Asked[] = [];
    const cold: Asked[] = [];
    for (const prompt of asked) warm.push(...(await engine.ask([prompt])));
    for (const prompt of asked) cold.push(...(await engine.ask([prompt], false)));
    expect(warm.map(({ tokens }) => tokens)).toEqual(cold.map(({ tokens }) => tokens));
    // All but the last token, with the model's begin token; then the last line of the grid, where a window is not enough.
    const cached = warm.map(({ cachedTokens }) => cachedTokens);
    expect(cached).toEqual([0, 390, kind === "gemma3" ? 381 : 352]);
    await engine.stop();
  });

  test("prompts that come together and open alike compute the opening once, where it can be copied", async () => {
    const engine = await start(optionsOf(kind, { checkpoints: { bytes: 1e8 } }));
    const warm = await engine.ask(prompts);
    const cold: Asked[] = [];
    for (const prompt of prompts) cold.push(...(await engine.ask([prompt], false)));
    expect(warm.map(({ tokens }) => tokens)).toEqual(cold.map(({ tokens }) => tokens));
    // Up to the last line of the grid that they share.
    const cached = warm.map(({ cachedTokens }) => cachedTokens);
    if (kind !== "gemma3") expect(cached).toEqual([0, 288, 288, 288]);
    await engine.stop();
  });
});

describe("the runtime", () => {
  async function filled(kind: string, tokens: number, extra: Partial<LoadOptions> = {}): Promise<Backend> {
    const backend = await loadLlamaBackend(optionsOf(kind, extra), () => undefined);
    for (let position = 0; position < tokens; position += 32) {
      const part = Uint32Array.from(text(tokens).slice(position, position + 32));
      await backend.run([{ slot: 0, position, tokens: part, sample: false }]).done;
    }
    return backend;
  }

  test.each(["mamba", "lfm2"])("keeps a state of all tokens, which is never cut: %s", async (kind) => {
    const backend = await filled(kind, 100);
    expect([backend.canRewind, backend.windowTokens, backend.firstCell(0)]).toEqual([false, undefined, 99]);
    expect(() => backend.truncate(0, 90)).toThrow("cannot cut");
    backend.truncate(0, 0);
    expect(backend.cellCount(0)).toBe(0);
    await backend.close();
  });

  test("drops cells behind a window, and says which are left", async () => {
    const short = await filled("gemma3", 200);
    expect([short.canRewind, short.windowTokens, short.firstCell(0)]).toEqual([false, TINY_WINDOW, 0]);
    await short.close();
    const long = await filled("gemma3", 600);
    expect(long.firstCell(0)).toBeGreaterThan(0);
    expect(long.firstCell(0)).toBeLessThanOrEqual(600 - TINY_WINDOW);
    await long.close();
  });

  test("keeps all cells where it is told to, or the window is as long as the slot", async () => {
    const whole = await filled("gemma3", 600, { swaFull: true });
    expect([whole.canRewind, whole.firstCell(0)]).toEqual([true, 0]);
    await whole.close();
    const modelPath = fileOf("wide");
    writeTinyDecoder(modelPath, "gemma3", { windowTokens: 256 });
    const small = await filled("gemma3", 224, { modelPath, contextTokens: 256 });
    expect([small.facts.contextTokens, small.canRewind, small.firstCell(0)]).toEqual([256, true, 0]);
    await small.close();
  });
});
