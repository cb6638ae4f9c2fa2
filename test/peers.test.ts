/** The table of what other engines' tests check names tests that are there. */
import { expect, test } from "vitest";
import { missingTests, tableRows } from "./support/named-tests.ts";

const rows = tableRows("test/peers.md")
  .filter(([first = ""]) => /^\d+$/.test(first))
  .map(([first, , tests = ""]) => ({ number: Number(first), tests }));

test("all 47 are there, in order", () => {
  expect(rows.map(({ number }) => number)).toEqual(Array.from({ length: 47 }, (_, i) => i + 1));
});

test.each(rows)("$number names a test that is there, or says why it has none", ({ tests }) => {
  if (tests.startsWith("does not apply: ")) return;
  expect(missingTests(tests)).toEqual([]);
});

test("no more than two do not apply", () => {
  const without = rows.filter(({ tests }) => tests.startsWith("does not apply: "));
  expect(without.map(({ number }) => number)).toEqual([10, 28]);
});
