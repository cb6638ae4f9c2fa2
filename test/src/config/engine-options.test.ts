/** What an engine is told: options over the preset over the defaults. */
import { expect, test } from "vitest";
import { engineOptions } from "../../../src/config/engine-options.ts";
import { loadConfig } from "../../../src/config/load-config.ts";

const options = (flags: Record<string, unknown>, env: Record<string, string> = {}) =>
  engineOptions({ id: "m", path: "model.gguf" }, loadConfig({ flags, env, file: undefined }));

test("a preset sets what nobody has set", () => {
  expect(options({})).toMatchObject({
    itlTargetMs: undefined,
    gatherMs: 20,
    deterministic: false,
    speculate: undefined,
    plugGaps: true,
    prefixFirst: true,
    keepSlots: true,
    prefillOrder: "shortest",
  });
  expect(options({})).not.toHaveProperty("minPrefillShare");
  expect(options({})).not.toHaveProperty("evenSteps");
  expect(options({ preset: "latency" })).toMatchObject({
    itlTargetMs: 50,
    minPrefillShare: 0.2,
    evenSteps: true,
    gatherMs: 0,
    flashAttention: "auto",
    prefillChunk: undefined,
  });
  expect(options({ preset: "throughput" })).toMatchObject({ itlTargetMs: 60_000 });
  expect(options({ preset: "strict" })).toMatchObject({
    deterministic: true,
    speculate: false,
    prefixFirst: false,
    keepSlots: false,
    prefillOrder: "arrival",
  });
});

test("a flag or a variable wins over the preset", () => {
  expect(options({ preset: "latency", "itl-target": "80" })).toMatchObject({
    itlTargetMs: 80,
    minPrefillShare: 0.2,
  });
  expect(options({ preset: "latency", "gather-tokens": "5ms" })).toMatchObject({ gatherMs: 5 });
  expect(options({ preset: "strict", deterministic: false })).toMatchObject({ deterministic: false });
  expect(options({ preset: "strict", "prefix-first": true })).toMatchObject({
    prefixFirst: true,
    keepSlots: false,
  });
  expect(options({ preset: "strict" }, { WEFT_KEEP_SLOTS: "on" })).toMatchObject({ keepSlots: true });
  expect(options({ preset: "strict" }, { WEFT_SPECULATION: "on" })).toMatchObject({ speculate: true });
  expect(options({ preset: "strict" }, { WEFT_SPECULATION: "auto" })).toMatchObject({ speculate: undefined });
});

test("a draft model's file is told, where there is one", () => {
  const config = loadConfig({ flags: {}, env: {}, file: undefined });
  expect(engineOptions({ id: "m", path: "model.gguf" }, config)).not.toHaveProperty("draftModelPath");
  expect(engineOptions({ id: "m", path: "model.gguf" }, config, "draft.gguf")).toMatchObject({
    draftModelPath: "draft.gguf",
  });
});

test("every knob reaches the engine", () => {
  const knobs = {
    "prefill-share": "0.5",
    plugs: false,
    "prefix-first": false,
    "keep-slots": false,
    "prefill-order": "arrival",
    "prefill-chunk": "32",
    slots: "3",
    "batch-size": "64",
    "swa-full": true,
  };
  expect(options({ ...knobs, threads: "2", "kv-type": "q8_0" })).toMatchObject({
    minPrefillShare: 0.5,
    plugGaps: false,
    prefixFirst: false,
    keepSlots: false,
    prefillOrder: "arrival",
    prefillChunk: 32,
    slots: 3,
    batchTokens: 64,
    swaFull: true,
    threads: 2,
    kvCacheType: "q8_0",
  });
});

test("slots are kept for short prompts where somebody says so, and a preset changes nothing of it", () => {
  for (const preset of ["latency", "balanced", "throughput", "strict"])
    expect(options({ preset })).not.toHaveProperty("reserve");
  expect(options({ "reserve-slots": "2" })).toMatchObject({ reserve: { slots: 2, promptTokens: 512 } });
  const env = { WEFT_RESERVE_SLOTS: "1", WEFT_SHORT_PROMPT_TOKENS: "300" };
  expect(options({ preset: "strict" }, env)).toMatchObject({ reserve: { slots: 1, promptTokens: 300 } });
  expect(options({ "reserve-slots": "7" })).toMatchObject({ slots: 8, reserve: { slots: 7 } });
  expect(() => options({ "reserve-slots": "8" })).toThrow(
    "--reserve-slots 8 leaves no slot of --slots 8 to long prompts: it has to be less.",
  );
  expect(() => options({ slots: "2" }, { WEFT_RESERVE_SLOTS: "2" })).toThrow("--slots 2");
});

test("prefixes are kept in files unless their size is 0, in a folder that may be named", () => {
  expect(options({ "spill-size": 0 })).not.toHaveProperty("spill");
  expect(options({})).toMatchObject({ spill: { directory: undefined, bytes: undefined, model: "m" } });
  expect(options({ "spill-size": "1.5G" })).toMatchObject({
    spill: { directory: undefined, bytes: 1_610_612_736 },
  });
  const both = options({ "spill-size": "500M" }, { WEFT_SPILL_DIR: "/var/spill" });
  expect(both).toMatchObject({ spill: { directory: "/var/spill", bytes: 524_288_000 } });
});
