/** The table of what other engines' tests check names tests that are there. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

interface Row {
  readonly number: number;
  /** What stands in its last column. */
  readonly tests: string;
}

const rows = readFileSync("test/peers.md", "utf8")
  .split("\n")
  .map((line) => line.split(" | "))
  .flatMap(([first = "", , tests = ""]): Row[] => {
    const number = Number(/^\| (\d+)$/.exec(first)?.[1]);
    return Number.isNaN(number) ? [] : [{ number, tests: tests.replace(/ \|$/, "") }];
  });

/** Each file with the titles named behind it. */
function named(tests: string): [string, string[]][] {
  return tests.split("; ").map((part) => {
    const [, file = "", titles = ""] = /^`([^`]+)` (.+)$/.exec(part) ?? [];
    return [file, [...titles.matchAll(/"([^"]+)"(?:, |$)/g)].map(([, title = ""]) => title)];
  });
}

test("all 47 are there, in order", () => {
  expect(rows.map(({ number }) => number)).toEqual(Array.from({ length: 47 }, (_, i) => i + 1));
});

test.each(rows)("$number names a test that is there, or says why it has none", ({ tests }) => {
  if (tests.startsWith("does not apply: ")) return;
  const missing = named(tests).flatMap(([file, titles]) => {
    const path = join("test", file);
    if (!file.endsWith(".test.ts") || !existsSync(path)) return [`no file in: ${tests}`];
    if (titles.length === 0) return [`no title behind ${file}`];
    const source = readFileSync(path, "utf8");
    // As a title: the first argument of a test, or of one for each of a list.
    const isTest = (title: string): boolean =>
      [`test("${title}"`, `it("${title}"`, `)("${title}"`].some((call) => source.includes(call));
    return titles.filter((title) => !isTest(title)).map((title) => `${file} has no test "${title}"`);
  });
  expect(missing).toEqual([]);
});

test("no more than two do not apply", () => {
  const without = rows.filter(({ tests }) => tests.startsWith("does not apply: "));
  expect(without.map(({ number }) => number)).toEqual([10, 28]);
});
