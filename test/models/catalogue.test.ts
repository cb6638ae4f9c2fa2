/** What the catalogue changes of a model: its template and its sampling defaults. */
import { readFileSync } from "node:fs";
import { Template } from "@huggingface/jinja";
import { expect, test } from "vitest";
import { DEFAULT_SAMPLING, findCatalogueEntry } from "../../models/catalogue.ts";
import { DEFAULT_LIMITS } from "../../src/config/limits.ts";
import { readGeneration, toEngineParams } from "../../src/openai/generation-fields.ts";

const smollm2 = findCatalogueEntry("smollm2");

function rendered(source: string, messages: readonly { role: string; content: string }[]): string {
  return new Template(source).render({ messages, add_generation_prompt: true });
}

test("smollm2's template is the file's without its default system message", () => {
  const own = smollm2?.overrides?.chatTemplate ?? "";
  const file = readFileSync("test/fixtures/smollm2-chat-template.jinja", "utf8");
  const user = { role: "user", content: "Hi" };
  const withSystem = [
    { role: "system", content: "Be brief." },
    user,
    { role: "assistant", content: "Ho" },
    user,
  ];
  expect(rendered(own, withSystem)).toBe(rendered(file, withSystem));
  expect(rendered(own, [user])).toBe("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
});

const ALLOWED = { strictParams: false, limits: DEFAULT_LIMITS };

test("a model's sampling defaults hold where a request says nothing, and yield where it does", () => {
  const sampling = smollm2?.overrides?.sampling ?? DEFAULT_SAMPLING;
  const paramsOf = (fields: object): { temperature: number; topP: number } =>
    toEngineParams(readGeneration(fields, undefined, undefined, ALLOWED), 10, sampling).sampling;
  expect(paramsOf({})).toMatchObject({ temperature: 0.2, topP: 0.9 });
  expect(paramsOf({ temperature: 0, top_p: 1 })).toMatchObject({ temperature: 0, topP: 1 });
  expect(
    toEngineParams(readGeneration({}, undefined, undefined, ALLOWED), 10, DEFAULT_SAMPLING).sampling,
  ).toMatchObject({
    temperature: 1,
    topP: 1,
  });
});
