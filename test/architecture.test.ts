/** The shape of the code: which folder may import which, who touches what, and that a file says what it owns. */
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, test } from "vitest";

const FOLDERS = ["src", "engine", "models", "bench"] as const;

/** Folders (or folder parts) that a file must not import from. The scheduler must not import anything impure. */
const FORBIDDEN: readonly { readonly from: string; readonly to: readonly string[] }[] = [
  { from: "engine/", to: ["src/", "models/", "bench/", "test/"] },
  { from: "models/", to: ["src/", "bench/", "test/"] },
  { from: "src/", to: ["test/", "engine/llama/", "engine/scheduler/", "engine/fake/"] },
  { from: "bench/", to: ["src/", "test/", "engine/scheduler/"] },
  { from: "engine/scheduler/", to: ["engine/llama/", "engine/process/", "engine/fake/"] },
];

/** The one file of src that may load commands of bench. */
const PROGRAM = "src/cli/program.ts";

const files = FOLDERS.flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name)),
);
const sources = new Map(files.map((file) => [file, readFileSync(file, "utf8")]));

/** Module specifiers of a file: packages as they are, files as paths from the root. */
function importsOf(file: string): string[] {
  const source = sources.get(file) ?? "";
  const specifiers = [...source.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map(
    (match) => match[1] ?? "",
  );
  return specifiers.map((name) => (name.startsWith(".") ? normalize(join(dirname(file), name)) : name));
}

/** Files loaded when they are needed, with `import(...)`. */
function lazyImportsOf(file: string): string[] {
  const source = sources.get(file) ?? "";
  return [...source.matchAll(/import\s*\(\s*"(\.[^"]+)"/g)].map((match) =>
    normalize(join(dirname(file), match[1] ?? "")),
  );
}

const importersOf = (matches: (specifier: string) => boolean): string[] =>
  files.filter((file) => importsOf(file).some(matches));

test("there is something to look at", () => {
  expect(files.length).toBeGreaterThan(60);
});

test.each(FORBIDDEN)("$from imports nothing from $to", ({ from, to }) => {
  const breaches = files
    .filter((file) => file.startsWith(from))
    .flatMap((file) =>
      importsOf(file)
        .filter((specifier) => to.some((folder) => specifier.startsWith(folder)))
        .map((specifier) => `${file} imports ${specifier}`),
    );
  expect(breaches).toEqual([]);
});

test("src takes nothing from bench but its commands, which are loaded when they are asked for", () => {
  const isBench = (specifier: string): boolean => specifier.startsWith("bench/");
  const known = files
    .filter((file) => file.startsWith("src/"))
    .flatMap((file) =>
      importsOf(file)
        .filter(isBench)
        .map((specifier) => `${file} imports ${specifier}`),
    );
  const lazy = lazyImportsOf(PROGRAM).filter(isBench);
  expect(known).toEqual(lazy.map((specifier) => `${PROGRAM} imports ${specifier}`));
  expect([...new Set(lazy)].sort()).toEqual(["bench/cli.ts", "bench/simulate/cli.ts", "bench/tune/cli.ts"]);
});

describe("packages with one home", () => {
  test("only engine/llama imports node-llama-cpp", () => {
    const importers = importersOf((name) => name === "node-llama-cpp");
    expect(importers.filter((file) => !file.startsWith("engine/llama/"))).toEqual([]);
  });

  test("only src imports hono", () => {
    const importers = importersOf((name) => /^(@?hono)(\/|$)/.test(name));
    expect(importers.filter((file) => !file.startsWith("src/"))).toEqual([]);
  });

  test("only the addon file reads private properties of node-llama-cpp", () => {
    const readers = files.filter((file) =>
      /Reflect\.get\(|\._ctx\b|\._model\b|\._bindings\b/.test(sources.get(file) ?? ""),
    );
    expect(readers.filter((file) => file.startsWith("engine/"))).toEqual(["engine/llama/addon.ts"]);
  });
});

test("the scheduler knows no clock, timer, promise, randomness or platform", () => {
  const impure =
    /\b(Date|performance|setTimeout|setInterval|setImmediate|queueMicrotask|Promise|process)\b|Math\.random|\basync\b|from "node:/;
  const code = (file: string): string => (sources.get(file) ?? "").replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
  const offenders = files.filter((file) => file.startsWith("engine/scheduler/") && impure.test(code(file)));
  expect(offenders).toEqual([]);
});

test("every file begins by saying what it owns", () => {
  const silent = files.filter((file) => !/^(#!.*\n)?\/\*\*/.test(sources.get(file) ?? ""));
  expect(silent).toEqual([]);
});
