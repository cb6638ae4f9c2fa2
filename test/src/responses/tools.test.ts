/** How tools and the choice between them are read. */
import { describe, expect, it } from "vitest";
import { DEFAULT_LIMITS } from "../../../src/config/limits.ts";
import { ApiError } from "../../../src/openai/api-error.ts";
import { readResponseTools } from "../../../src/openai/responses/tools.ts";

const weather = { type: "function", name: "get_weather", parameters: { type: "object" } };
const patch = { type: "custom", name: "apply_patch" };
const lark = { type: "grammar", syntax: "lark", definition: "start: /a+/" };

function readTools(value: unknown, strictParams: boolean) {
  return readResponseTools(value, { strictParams, limits: DEFAULT_LIMITS });
}

function refusal(act: () => unknown): object | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { code: error.code, param: error.param };
  }
}

describe("tools", () => {
  it("are functions, those for text with one argument", () => {
    const { tools, echo, leftOut } = readTools(
      [
        { ...weather, description: "the weather", strict: true },
        { ...weather, name: "b", parameters: null },
        patch,
      ],
      false,
    );
    expect(tools).toEqual([
      {
        name: "get_weather",
        description: "the weather",
        parameters: { type: "object" },
        strict: true,
        custom: false,
        param: "tools[0].parameters",
      },
      { name: "b", parameters: undefined, strict: false, custom: false, param: "tools[1].parameters" },
      {
        name: "apply_patch",
        parameters: {
          type: "object",
          properties: { input: { type: "string" } },
          required: ["input"],
          additionalProperties: false,
        },
        strict: true,
        custom: true,
        param: "tools[2].format",
      },
    ]);
    expect(echo).toEqual([
      { ...weather, description: "the weather", strict: true },
      { ...weather, name: "b", description: null, parameters: null, strict: false },
      { ...patch, description: null, format: { type: "text" } },
    ]);
    expect(leftOut).toEqual([]);
  });

  it("for text are held to a regular expression", () => {
    const format = { type: "grammar", syntax: "regex", definition: "a|b" };
    const [tool] = readTools([{ ...patch, format }], true).tools;
    expect(tool?.parameters?.["properties"]).toEqual({ input: { type: "string", pattern: "^(?:a|b)$" } });
  });

  it("for text are shown a Lark grammar, which is reported", () => {
    const { tools, echo, leftOut } = readTools([{ ...patch, description: "Patches.", format: lark }], false);
    expect(tools[0]?.description).toBe("Patches.\n\nThe input has to follow this Lark grammar:\nstart: /a+/");
    expect(echo[0]).toMatchObject({ description: "Patches.", format: lark });
    expect(leftOut).toEqual(["tools[0].format"]);
    expect(refusal(() => readTools([{ ...patch, format: lark }], true))).toEqual({
      code: "unsupported_value",
      param: "tools[0].format.syntax",
    });
  });

  it("T71: of other machines are left out beside others, and refused alone or with strict params", () => {
    const search = { type: "web_search" };
    const read = readTools([search, weather, { type: "mcp" }], false);
    expect(read.tools.map(({ name, param }) => [name, param])).toEqual([
      ["get_weather", "tools[1].parameters"],
    ]);
    expect([read.echo.length, read.leftOut]).toEqual([1, ["tools[0]", "tools[2]"]]);
    const refused = { code: "unsupported_value", param: "tools[0].type" };
    expect(refusal(() => readTools([search], false))).toEqual(refused);
    expect(refusal(() => readTools([search, weather], true))).toEqual(refused);
  });

  it("have names of their own, and are not too many", () => {
    expect(refusal(() => readTools([weather, weather], false))).toEqual({
      code: "invalid_value",
      param: "tools[1].name",
    });
    const many = Array.from({ length: 129 }, (_, i) => ({ ...weather, name: `f${i}` }));
    expect(refusal(() => readTools(many, false))).toEqual({
      code: "array_above_max_length",
      param: "tools",
    });
  });
});
