/** Other names that the operator gives models: whose they are, and which are refused. */
import { expect, test } from "vitest";
import { findModels } from "../../../src/cli/find-models.ts";

const TWO = ["one=models/pocket.gguf", "two=models/pocket.gguf"];

const aliasesOf = async (model: readonly string[], alias: readonly string[]): Promise<object> => {
  const found = await findModels({ model, alias, lora: [], "chat-template": undefined });
  return Object.fromEntries(found.map(({ id, aliases }) => [id, aliases]));
};

test("an alias is a name of the first model, or of the one that it is for", async () => {
  expect(await aliasesOf([], ["gpt-4o-mini", "org/small"])).toEqual({ pocket: ["gpt-4o-mini", "org/small"] });
  expect(await aliasesOf(TWO, ["gpt-4o", "mini=two", "tiny=mini"])).toEqual({
    one: ["pocket", "gpt-4o"],
    two: ["pocket", "mini", "tiny"],
  });
});

test.each([
  [["one"], 'A model is called "one" already'],
  [["a", "a"], 'A model is called "a" already'],
  [["two=one"], 'A model is called "two" already'],
  [["a=three"], 'for the model "three", which is not served'],
  [["a b"], "Expected --alias to be NAME or NAME=MODEL"],
  [["=one"], "Expected --alias to be NAME or NAME=MODEL"],
  [["a="], "Expected --alias to be NAME or NAME=MODEL"],
])("%j is refused", async (alias, message) => {
  await expect(aliasesOf(TWO, alias)).rejects.toThrow(message);
});
