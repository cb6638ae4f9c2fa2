/** Files of models, draft models and adapters that are broken somewhere: refused, or the end of an engine, never a hang. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { EngineClient } from "../../../engine/client.ts";
import { EngineError } from "../../../engine/errors.ts";
import { forkEngine } from "../../../engine/process/fork.ts";
import type { LoadOptions } from "../../../engine/protocol.ts";
import { checkAdapterFile } from "../../../models/adapter-file.ts";
import { readGgufHeader } from "../../../models/gguf-header.ts";
import { ModelFileError } from "../../../models/model-file-error.ts";
import { packageRoot } from "../../../models/package-root.ts";
import { GREEDY, LOAD_OPTIONS } from "../../support/engine.ts";
import { brokenFile } from "../../support/file-breaker.ts";
import { seededRandom } from "../../support/body-mutator.ts";
import { hangs, ownChildren } from "../../support/hang-watch.ts";

/** Also a long run's: WEFT_FUZZ_GGUFS=1000, from WEFT_FUZZ_SEED on. */
const FILES = Number(process.env["WEFT_FUZZ_GGUFS"] ?? 24);
const FIRST_SEED = Number(process.env["WEFT_FUZZ_SEED"] ?? 0);
const ENTRY = new URL("../../../dist/engine/process/main.js", import.meta.url);

const folder = mkdtempSync(join(tmpdir(), "weft-broken-"));
afterAll(() => rmSync(folder, { recursive: true }));

const [MODEL, DRAFT, ADAPTER] = ["pocket", "pocket-draft", "pocket-pirate-lora"].map((name) =>
  join(packageRoot, `models/${name}.gguf`),
) as [string, string, string];
const pocket = readGgufHeader(MODEL);

/** Each kind of file, what the server does before an engine sees it, and how an engine does. */
const KINDS: readonly {
  readonly whole: Uint8Array;
  readonly check: (path: string) => unknown;
  readonly options: (path: string) => Partial<LoadOptions>;
}[] = [
  { whole: readFileSync(MODEL), check: readGgufHeader, options: (modelPath) => ({ modelPath }) },
  { whole: readFileSync(DRAFT), check: readGgufHeader, options: (draftModelPath) => ({ draftModelPath }) },
  {
    whole: readFileSync(ADAPTER),
    check: (path) => checkAdapterFile(path, pocket),
    options: (path) => ({ adapters: [path] }),
  },
];

type Outcome = "refused" | "not loaded" | "engine ended" | "request fails" | "answers" | "hangs";

async function outcomeOf(seed: number): Promise<Outcome> {
  const kind = KINDS[seed % KINDS.length] ?? KINDS[0];
  if (kind === undefined) throw new Error("There is no kind of file.");
  const path = join(folder, `${seed}.gguf`);
  writeFileSync(path, brokenFile(kind.whole, seededRandom(seed)));
  try {
    kind.check(path);
  } catch (error) {
    if (!(error instanceof ModelFileError)) throw error;
    rmSync(path);
    return "refused";
  }
  const others = new Set(ownChildren());
  const engine = new EngineClient(forkEngine({ entry: ENTRY }));
  const pid = ownChildren().find((child) => !others.has(child));
  if (pid === undefined) throw new Error("No engine was started.");
  const hang = hangs(pid);
  try {
    return await Promise.race([used(engine, kind.options(path)), hang.seen.then((): Outcome => "hangs")]);
  } finally {
    hang.stop();
    engine.kill();
    await engine.exited;
    rmSync(path);
  }
}

/** Loads the model, and asks it a question if it can be loaded. */
async function used(engine: EngineClient, options: Partial<LoadOptions>): Promise<Outcome> {
  try {
    await engine.load({
      ...LOAD_OPTIONS,
      modelPath: MODEL,
      contextTokens: 256,
      slots: 2,
      threads: 1,
      ...options,
    });
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return error.code === "engine_exited" ? "engine ended" : "not loaded";
  }
  const request = {
    id: "asked",
    prompt: [{ text: "1, 2, 3,", special: false }],
    addBos: true,
    owner: "tester",
    promptLogprobs: undefined,
    adapters: options.adapters === undefined ? [] : [{ adapter: 0, scale: 1 }],
    params: { ...GREEDY, maxTokens: 4 },
  };
  try {
    for await (const _ of await engine.submit(request));
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return error.code === "engine_exited" ? "engine ended" : "request fails";
  }
  return "answers";
}

test("broken files hang nothing", { timeout: 7_200_000 }, async ({ annotate }) => {
  const counts: Partial<Record<Outcome, number>> = {};
  const notable: string[] = [];
  let next = FIRST_SEED;
  const worker = async (): Promise<void> => {
    while (next < FIRST_SEED + FILES) {
      const seed = next++;
      const outcome = await outcomeOf(seed);
      counts[outcome] = (counts[outcome] ?? 0) + 1;
      if (outcome === "hangs" || outcome === "engine ended") notable.push(`${seed} ${outcome}`);
    }
  };
  await Promise.all([worker(), worker()]);
  await annotate(JSON.stringify({ counts, notable }));
  expect(notable.filter((line) => line.endsWith("hangs"))).toEqual([]);
  expect(counts.refused).toBeGreaterThan(0);
});
