/** The table of invariants names checks and tests that are there, and every one of those checks is seen to notice. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { missingTests, quoted, tableRows } from "./support/named-tests.ts";

const rows = tableRows("test/invariants.md").filter(([first = ""]) => /^I\d+$/.test(first));
const read = (file: string): string => readFileSync(file, "utf8");
const checks = ["invariants.ts", "kept-invariants.ts"]
  .map((file) => read(`engine/scheduler/${file}`))
  .join("\n");

const broken = read("test/engine/scheduler/invariants.test.ts");

test("all 18 are there, in order", () => {
  expect(rows.map(([first]) => first)).toEqual(Array.from({ length: 18 }, (_, i) => `I${i + 1}`));
});

test.each(rows)(
  "%s is asserted as it says, and shown by tests that are there",
  (_, __ = "", asserted = "", shown = "") => {
    const names = quoted(asserted);
    expect(names.length > 0 || /^by (both backends|tests alone)/.test(asserted)).toBe(true);
    expect(names.filter((name) => !checks.includes(`"${name}"`))).toEqual([]);
    expect(
      names.filter((name) => ![`"${name}"`, `: ${name}"`].some((named) => broken.includes(named))),
    ).toEqual([]);
    expect(missingTests(shown)).toEqual([]);
  },
);
