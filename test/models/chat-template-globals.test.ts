import { describe, expect, it } from "vitest";
import {
  dateVariables,
  RESERVED_VARIABLES,
  strftime,
  TEMPLATE_GLOBALS,
} from "../../models/chat-template-globals.ts";

const range = TEMPLATE_GLOBALS["range"] as (...args: number[]) => number[];

describe("strftime", () => {
  it("writes dates as Python does in the C locale", () => {
    const date = new Date(2025, 0, 5, 15, 4, 9);
    expect(strftime(date, "%d %b %Y")).toBe("05 Jan 2025");
    expect(strftime(date, "%A, %B %-d, %y")).toBe("Sunday, January 5, 25");
    expect(strftime(date, "%F %T %I %p %a %w %j %m/%-m 100%%")).toBe(
      "2025-01-05 15:04:09 03 PM Sun 0 005 01/1 100%",
    );
  });

  it("leaves a directive that it does not know", () => {
    expect(strftime(new Date(0), "%Q")).toBe("%Q");
  });
});

describe("the date", () => {
  it("has the names and forms of the Llama family's templates", () => {
    expect(dateVariables(new Date(2025, 0, 5))).toEqual({
      date_string: "05 Jan 2025",
      datetime: "Jan 05 2025",
    });
  });
});

describe("range", () => {
  it("counts as Python's does", () => {
    expect(range(3)).toEqual([0, 1, 2]);
    expect(range(1, 3)).toEqual([1, 2]);
    expect(range(5, 0, -2)).toEqual([5, 3, 1]);
    expect(range(2, 1)).toEqual([]);
  });

  it("refuses a step of zero and a list that would fill the heap", () => {
    expect(() => range(0, 1, 0)).toThrow(RangeError);
    expect(() => range(1e9)).toThrow(RangeError);
  });
});

describe("the reserved variables", () => {
  it("include every global", () => {
    expect(Object.keys(TEMPLATE_GLOBALS).filter((name) => !RESERVED_VARIABLES.has(name))).toEqual([]);
  });
});
