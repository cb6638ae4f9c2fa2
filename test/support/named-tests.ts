/** Tables in Markdown that name tests by file and title, so that a test can see whether they are there. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** The cells of each row, without the heads. */
export function tableRows(file: string): string[][] {
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("| ---") && !line.startsWith("|  |"))
    .map((line) => line.replace(/^\| /, "").replace(/ \|$/, "").split(" | "));
}

/** What stands in quotes, one behind the other with commas between. */
export function quoted(text: string): string[] {
  return [...text.matchAll(/"([^"]+)"(?:, |$)/g)].map(([, title = ""]) => title);
}

/** What a cell names that is not there; the cell is `file` "title", "title"; `file` "title". */
export function missingTests(cell: string): string[] {
  return cell.split("; ").flatMap((part) => {
    const [, file = "", rest = ""] = /^`([^`]+)` (.+)$/.exec(part) ?? [];
    const path = join("test", file);
    if (!file.endsWith(".test.ts") || !existsSync(path)) return [`no file in: ${cell}`];
    const titles = quoted(rest);
    if (titles.length === 0) return [`no title behind ${file}`];
    const source = readFileSync(path, "utf8");
    // As a title: the first argument of a test, or of one for each of a list.
    const isTest = (title: string): boolean =>
      [`test("${title}"`, `it("${title}"`, `)("${title}"`].some((call) => source.includes(call));
    return titles.filter((title) => !isTest(title)).map((title) => `${file} has no test "${title}"`);
  });
}
