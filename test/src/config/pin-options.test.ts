/** `--pin-prompt`: which file is for which model, what is in it, and what is refused before anything is loaded. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadConfig } from "../../../src/config/load-config.ts";
import { pinOptions } from "../../../src/config/pin-options.ts";

const folder = mkdtempSync(join(tmpdir(), "weft-pin-options-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}
const TEXT = file("a.txt", "You are kind.\n");
const served = (...ids: readonly string[]): Parameters<typeof pinOptions>[1] =>
  ids.map((id) => ({ id, aliases: [`${id}-alias`] }));
const SYSTEM = { messages: [{ role: "system", content: "You are kind." }] };

test("a text is a system message, without the line break that ends its file", () => {
  expect(pinOptions([TEXT], served("m"))).toEqual([
    { name: "a.txt", model: "m", adapter: undefined, body: SYSTEM },
  ]);
  const twice = file("b.txt", " two\r\n\r\n");
  expect(pinOptions([twice], served("m"))[0]?.body).toEqual({
    messages: [{ role: "system", content: " two\r\n" }],
  });
});

test("the mark that some editors begin a file with is not part of it", () => {
  expect(pinOptions([file("marked.txt", "\uFEFFYou are kind.\n")], served("m"))[0]?.body).toEqual(SYSTEM);
  expect(pinOptions([file("marked.json", "\uFEFF{}")], served("m"))[0]?.body).toEqual({ messages: [] });
});

test("JSON is a chat without its user's turn", () => {
  const body = { messages: [{ role: "system", content: "x" }], tools: [], reasoning_effort: "low" };
  expect(pinOptions([file("c.json", JSON.stringify(body))], served("m"))[0]?.body).toEqual(body);
  expect(pinOptions([file("d.JSON", `{"tools": []}`)], served("m"))[0]?.body).toEqual({
    tools: [],
    messages: [],
  });
});

test("the model stands behind the file, by any of its names, and so does an adapter", () => {
  const [a, b] = served("a", "org/b@1");
  const models = [{ id: "a", aliases: [], ...a, adapters: [{ name: "fine" } as never] }, ...(b ? [b] : [])];
  const entries = [`${TEXT}@a`, `${TEXT}@org/b@1`, `${TEXT}@fine`];
  expect(pinOptions(entries, models).map(({ model, adapter }) => [model, adapter])).toEqual([
    ["a", undefined],
    ["org/b@1", undefined],
    ["a", "fine"],
  ]);
  expect(pinOptions([`${TEXT}@a-alias`], models)[0]?.model).toBe("a");
  const odd = file("me@home", "x");
  expect(pinOptions([odd], served("m"))[0]).toMatchObject({ name: "me@home", model: "m" });
});

test.each<[string, readonly string[], readonly string[], RegExp | string]>([
  [
    "several models and no word of which",
    [TEXT],
    ["a", "b"],
    `Several models are served; say for which one --pin-prompt ${TEXT} is: --pin-prompt ${TEXT}@MODEL with one of a, b.`,
  ],
  [
    "a model that is not served",
    [`${TEXT}@c`],
    ["a"],
    `--pin-prompt ${TEXT} is for "c", which is not served; served are: a.`,
  ],
  ["a file that is not there", [join(folder, "none.txt")], ["a"], /none\.txt cannot be read \(ENOENT/],
  ["an empty one", [file("empty.txt", "\n")], ["a"], /empty\.txt is empty/],
  [
    "no text",
    [file("latin.txt", Uint8Array.from([0x59, 0xe9, 0x2e]))],
    ["a"],
    /latin\.txt cannot be read \(The encoded data was not valid/,
  ],
  ["no JSON", [file("bad.json", `{"messages": [}`)], ["a"], /bad\.json is not JSON: .* at line 1/],
  ["no object", [file("list.json", "[]")], ["a"], /list\.json must hold one JSON object/],
  [
    "no messages",
    [file("text.json", `{"messages": "x"}`)],
    ["a"],
    /"messages" in .*text\.json must be a list/,
  ],
  ["two of a name", [TEXT, TEXT], ["a"], `Two pinned prompts of "a" would be called a.txt.`],
])("refused: %s", (_, entries, ids, message) => {
  expect(() => pinOptions(entries, served(...ids))).toThrow(message);
});

test("files are named on the command line, in the environment and in the file of options alike", () => {
  const read = (flags: Record<string, unknown>, env: Record<string, string>): readonly string[] =>
    loadConfig({ flags, env, file: undefined }).values["pin-prompt"];
  expect(read({ "pin-prompt": ["a", "b"] }, {})).toEqual(["a", "b"]);
  expect(read({}, { WEFT_PIN_PROMPTS: "a,b@c" })).toEqual(["a", "b@c"]);
  const config = file("config.json", JSON.stringify({ "pin-prompt": ["a"] }));
  expect(loadConfig({ flags: {}, env: {}, file: config }).values["pin-prompt"]).toEqual(["a"]);
  expect(() => read({ "pin-prompt": ["a"], "spill-size": "0" }, {})).toThrow(
    "--pin-prompt keeps computed prompts in files, and --spill-size 0 keeps none: leave one of them out.",
  );
});
