/** What is said of a configuration file that is not JSON: the same on every version of Node. */
import { expect, test } from "vitest";
import { jsonProblem } from "../../../src/config/json-problem.ts";

test.each([
  ["{port: 1}", "Expected property name or '}' at line 1, column 2"],
  ['{\n  "port": 1,\n}', "Expected double-quoted property name at line 3, column 1"],
  ['{\n  "port": 1\n  "host": "a"\n}', "Expected ',' or '}' after property value at line 3, column 3"],
  ['{"port": 1} x', "Unexpected non-whitespace character after JSON at line 1, column 13"],
  ['// mine\n{"port": 1}', "Unexpected token '/' at line 1, column 1"],
  [
    '{\n  "deterministic": True,\n  "model": ["a", "b"], "port": 9338\n}',
    "Unexpected token 'T' at line 2, column 20",
  ],
  ['{"model": [a]}', "Unexpected token 'a' at line 1, column 12"],
  ['{"port": 1', "it ends too early"],
  ["", "it ends too early"],
])("%j: %s", (text, problem) => {
  expect(jsonProblem(text)).toBe(problem);
});
