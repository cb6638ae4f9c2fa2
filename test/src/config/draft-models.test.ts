/** Which draft model is for which served model, and what is refused before anything is loaded. */
import { expect, test } from "vitest";
import { draftModels } from "../../../src/config/draft-models.ts";
import { loadConfig } from "../../../src/config/load-config.ts";

const chosen = (served: string[], flags: Record<string, unknown>, env: Record<string, string> = {}) => [
  ...draftModels(
    loadConfig({ flags, env, file: undefined }),
    served.map((id) => ({ id, aliases: [`${id}-alias`] })),
  ),
];

test("a name alone is for the only model, others say for which", () => {
  expect(chosen(["big"], {})).toEqual([]);
  expect(chosen(["big"], { "draft-model": ["./small.gguf"] })).toEqual([["big", "./small.gguf"]]);
  expect(chosen(["big"], {}, { WEFT_DRAFT_MODEL: "hf:org/small:Q8_0" })).toEqual([
    ["big", "hf:org/small:Q8_0"],
  ]);
  expect(chosen(["a", "b.c"], { "draft-model": ["b.c=./x=y.gguf", "a=small"] })).toEqual([
    ["b.c", "./x=y.gguf"],
    ["a", "small"],
  ]);
  const hub = ["a", "org/repo:Q4_K_M"];
  expect(chosen(hub, { "draft-model": ["org/repo:Q4_K_M=small", "a-alias=tiny"] })).toEqual([
    ["org/repo:Q4_K_M", "small"],
    ["a", "tiny"],
  ]);
});

test.each<[string, string[], Record<string, unknown>, string]>([
  [
    "several models and no word of which",
    ["a", "b"],
    { "draft-model": ["small"] },
    "Several models are served; say for which one --draft-model small is: --draft-model a=small.",
  ],
  [
    "a model that is not served",
    ["a"],
    { "draft-model": ["b=small"] },
    '--draft-model b=small is for "b", which is not served; served are: a.',
  ],
  ["two for one model", ["a"], { "draft-model": ["x", "y"] }, '--draft-model is given twice for "a".'],
  [
    "no speculation",
    ["a"],
    { "draft-model": ["x"], speculation: "off" },
    "--draft-model has nothing to do under --speculation off, where nothing is guessed. Drop one of them.",
  ],
  [
    "deterministic outputs",
    ["a"],
    { "draft-model": ["x"], deterministic: true },
    "--draft-model has nothing to do under --deterministic, where nothing is guessed. Drop one of them.",
  ],
  [
    "a preset without guesses",
    ["a"],
    { "draft-model": ["x"], preset: "strict" },
    "--draft-model has nothing to do under --preset strict, where nothing is guessed. Drop one of them.",
  ],
])("refused: %s", (_case, served, flags, message) => {
  expect(() => chosen(served, flags)).toThrow(message);
});

test("a preset's word counts only where nothing else is said", () => {
  const flags = { "draft-model": ["x"], preset: "strict", deterministic: false, speculation: "on" };
  expect(chosen(["a"], flags)).toEqual([["a", "x"]]);
});
