/** Finished outputs looked at in their thread: what is found, and that nobody else waits for it. */
import { afterEach, describe, expect, it } from "vitest";
import { OutputChecker } from "../../models/output-checker.ts";
import { wrongOutput } from "../../models/output-check.ts";

const open: OutputChecker[] = [];
afterEach(() => Promise.all(open.splice(0).map((checker) => checker.close())));

function checkerWith(options: ConstructorParameters<typeof OutputChecker>[0] = {}): OutputChecker {
  const checker = new OutputChecker({ deadlineMs: 15_000, ...options });
  open.push(checker);
  return checker;
}

const saying = (content: string) => ({ content, calls: [] });
const calling = (name: string, text: string, content = "") => ({
  content,
  calls: [{ name, arguments: text }],
});

const OBJECT = { answer: {}, calls: {} };
const SCHEMA = { answer: { schema: { type: "object", properties: { a: { type: "integer" } } } }, calls: {} };
const TOOL = { calls: { f: { type: "object", required: ["x"] } } };

/** The last number is wrong, which is found after a hundred million comparisons. */
const LONG = {
  answer: { schema: { items: { enum: Array.from({ length: 20_000 }, (_, i) => i) } } },
  calls: {},
};
const LONG_ANSWER = saying(JSON.stringify([...Array<number>(5000).fill(19_999), -1]));

describe("wrongOutput", () => {
  it.each([
    [OBJECT, saying('{"a": 1}'), undefined],
    [OBJECT, saying("[1]"), "the content is no JSON object"],
    [OBJECT, saying("{"), "the content is no JSON object"],
    [OBJECT, calling("f", "{"), undefined],
    [OBJECT, calling("f", "{}", "Hello"), "the content is no JSON object"],
    [SCHEMA, saying('{"a": 1}'), undefined],
    [SCHEMA, saying('{"a": "b"}'), "a: it is not of type integer"],
    [SCHEMA, saying('{"a": '), "the content is not JSON"],
    [TOOL, saying("Hello"), undefined],
    [TOOL, calling("f", '{"x": 1}'), undefined],
    [TOOL, calling("f", "{}"), "call of f: : the property 'x' is missing"],
    [TOOL, calling("f", '{"x'), "call of f: the arguments are not JSON"],
    [TOOL, calling("toString", "{"), undefined],
  ])("of %j for %j is %s", (promise, output, wrong) => {
    expect(wrongOutput(promise, output)).toBe(wrong);
  });
});

describe("OutputChecker", () => {
  it("says what is wrong with each output of a promise", async () => {
    const check = checkerWith().checkOf(SCHEMA);
    const outputs = [saying('{"a": "b"}'), saying('{"a": 1}'), saying("")];
    expect(await Promise.all(outputs.map(check))).toEqual([
      "a: it is not of type integer",
      undefined,
      "the content is not JSON",
    ]);
  });

  it("leaves the event loop to others while it looks", async () => {
    const checker = checkerWith();
    let turns = 0;
    const count = (): void => {
      turns++;
      turning = setImmediate(count);
    };
    let turning = setImmediate(count);
    expect(await checker.checkOf(SCHEMA)(saying("1"))).toBe(": it is not of type object");
    clearImmediate(turning);
    expect(turns).toBeGreaterThan(1);
  });

  it("gives up what takes longer than its deadline", async () => {
    expect(await checkerWith({ deadlineMs: 1 }).checkOf(LONG)(LONG_ANSWER)).toBeUndefined();
  });

  it("looks at no more than may wait, and says of the rest that nothing is wrong", async () => {
    const check = checkerWith({ maxQueued: 2 }).checkOf(OBJECT);
    const found = await Promise.all(Array.from({ length: 4 }, () => check(saying("1"))));
    expect(found).toEqual([...Array(2).fill("the content is no JSON object"), undefined, undefined]);
  });

  it("says nothing once it is closed", async () => {
    const checker = checkerWith();
    const waiting = checker.checkOf(OBJECT)(saying("1"));
    await checker.close();
    expect(await waiting).toBeUndefined();
    expect(await checker.checkOf(OBJECT)(saying("1"))).toBeUndefined();
  });
});
