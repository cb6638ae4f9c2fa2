/** Constraints compiled in their thread: the same as here, remembered, and no longer than the deadline. */
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { ConstraintCompiler } from "../../models/constraint-compiler.ts";
import { JobError } from "../../models/job-thread.ts";
import { compileConstraint, ConstraintError } from "../../models/output-constraint.ts";
import type { OutputConstraint, OutputFormat } from "../../models/output-constraint.ts";
import { harmonyFormat } from "../../models/tools/harmony-format.ts";
import { GENERIC_SYNTAX } from "../../models/tools/known-syntaxes.ts";
import { formatOf } from "../../models/tools/syntax-format.ts";
import type { ToolFormat } from "../../models/tools/tool-format.ts";

const open: ConstraintCompiler[] = [];
afterEach(() => Promise.all(open.splice(0).map((compiler) => compiler.close())));

function compilerWith(options: ConstructorParameters<typeof ConstraintCompiler>[0] = {}): ConstraintCompiler {
  const compiler = new ConstraintCompiler({ deadlineMs: 15_000, ...options });
  open.push(compiler);
  return compiler;
}

const answering = (answer: OutputFormat): OutputConstraint => ({
  reasoning: undefined,
  calls: undefined,
  answer,
  answerHeader: undefined,
});
const schemaOf = (schema: unknown, strict = false): OutputConstraint =>
  answering({
    kind: "json_schema",
    name: "n",
    schema,
    strict,
    at: "response_format.schema",
    param: "response_format",
  });

/** Every choice of either makes a new conjunction, up to a bound that takes seconds to reach. */
const HOSTILE = schemaOf({
  allOf: Array.from({ length: 13 }, (_, i) => ({
    anyOf: [{ properties: { [`a${i}`]: {} } }, { properties: { [`b${i}`]: { type: "number" } } }],
  })),
});

const SHOWS = { definitions: true, calls: true, severalCalls: true, namesInIds: false, results: true };
const calling = (format: ToolFormat): OutputConstraint => ({
  reasoning: { start: "<think>", end: "</think>", opened: false },
  calls: {
    format,
    names: ["f", "g"],
    mode: "auto",
    callable: [
      {
        name: "f",
        parameters: { type: "object", properties: { a: { type: "integer" } } },
        strict: true,
        param: "tools[0]",
      },
      { name: "g", parameters: undefined, strict: false, param: "tools[1]" },
    ],
    parallel: true,
  },
  answer: { kind: "text" },
  answerHeader: format.answerHeader,
});

async function outcome(compiled: Promise<unknown>): Promise<unknown> {
  try {
    return await compiled;
  } catch (error) {
    if (error instanceof ConstraintError)
      return { param: error.param, tool: error.tool, message: error.message };
    return error instanceof JobError ? error.code : error;
  }
}

describe("a constraint", () => {
  const shared = new ConstraintCompiler({ deadlineMs: 15_000 });
  afterAll(() => shared.close());

  it.each<[string, OutputConstraint]>([
    ["a schema", schemaOf({ type: "object", properties: { a: { type: "string" } }, uniqueItems: true })],
    [
      "a schema with a key that means something else in JavaScript",
      schemaOf(JSON.parse('{"properties":{"__proto__":{"type":"null"}}}')),
    ],
    ["any object", answering({ kind: "json_object", param: "response_format" })],
    ["a pattern", answering({ kind: "regex", pattern: "[a-z]{2,}é?", param: "guided_regex" })],
    ["a choice", answering({ kind: "choice", choices: ["yes", "no"], param: "guided_choice" })],
    ["a grammar", answering({ kind: "grammar", text: 'root ::= "a" b\nb ::= [^x]+', param: "grammar" })],
    ["tools", calling(formatOf(GENERIC_SYNTAX, SHOWS))],
    ["tools of a format that is code", calling(harmonyFormat(SHOWS))],
    [
      "an answer behind a header",
      { ...calling(harmonyFormat(SHOWS)), answer: { kind: "json_object", param: "p" } },
    ],
  ])("is what it is without the thread: %s", async (_name, constraint) => {
    expect(await shared.compile(constraint)).toEqual(compileConstraint(constraint));
  });

  it("is refused in the same words", async () => {
    const bad: OutputConstraint[] = [
      schemaOf({ type: "array", uniqueItems: true }, true),
      answering({ kind: "regex", pattern: "(", param: "guided_regex" }),
      answering({ kind: "grammar", text: "root ::= other", param: "grammar" }),
      {
        ...calling(formatOf(GENERIC_SYNTAX, SHOWS)),
        calls: {
          ...(calling(formatOf(GENERIC_SYNTAX, SHOWS)).calls ?? fail()),
          callable: [{ name: "f", parameters: { type: "string" }, strict: false, param: "tools[0]" }],
        },
      },
    ];
    for (const constraint of bad) {
      const here = await outcome(new Promise((resolve) => resolve(compileConstraint(constraint))));
      expect(here).toMatchObject({ message: expect.any(String) as string });
      expect(await outcome(shared.compile(constraint))).toEqual(here);
    }
  });

  it("is compiled once, for those who ask at the same time as well", async () => {
    const compiler = compilerWith({ maxQueued: 1 });
    const schema = schemaOf({ type: "object", properties: { a: { type: "string" } } });
    const [first, second] = await Promise.all([compiler.compile(schema), compiler.compile({ ...schema })]);
    expect(second).toBe(first);
    expect(await compiler.compile({ ...schema })).toBe(first);
  });

  it("that takes too long is refused, and others go on", async () => {
    const compiler = compilerWith({ deadlineMs: 800 });
    const small = schemaOf({ type: "integer" });
    const [hostile, other] = await Promise.all([
      outcome(compiler.compile(HOSTILE)),
      outcome(compiler.compile(small)),
    ]);
    expect(hostile).toMatchObject({
      param: "response_format",
      message: expect.stringContaining("complex") as string,
    });
    expect(other).toEqual(compileConstraint(small));
  });

  it("has to wait for no more than a bounded queue", async () => {
    const compiler = compilerWith({ maxQueued: 2 });
    const asked = [1, 2, 3].map((maximum) =>
      outcome(compiler.compile(schemaOf({ type: "integer", maximum }))),
    );
    expect((await Promise.all(asked)).map((result) => typeof result)).toEqual(["object", "object", "string"]);
    await compiler.close();
    expect(await outcome(compiler.compile(schemaOf({ type: "integer", maximum: 4 })))).toBe("closed");
  });
});

function fail(): never {
  throw new Error("no calls");
}
