import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { harmonyFormat } from "../../../models/tools/harmony-format.ts";
import { TemplateRenderer } from "../../../models/chat-template.ts";
import { TextPipeline } from "../../../models/text/text-pipeline.ts";
import { keptControls } from "../../../models/tools/kept-controls.ts";
import { controlToken, cutAt, tableOf, textToken } from "../token-tables.ts";
import { templateOf } from "./fixture-templates.ts";
import { characters, read } from "./parse.ts";

const format = harmonyFormat({ definitions: true, calls: true, severalCalls: true, results: true });
const PARIS = { name: "get_weather", arguments: '{"city": "Paris"}' };

function bothCuts(text: string, complete = true) {
  const whole = read(format, [text], { complete });
  expect(read(format, characters(text), { complete })).toEqual(whole);
  return { content: whole.content, calls: whole.calls };
}

describe("Harmony", () => {
  it.each([
    '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>',
    '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}',
    ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}<|call|>',
    '<|start|>assistant<|channel|>commentary to=functions.get_weather<|message|>{"city": "Paris"}<|call|>',
    '<|start|>assistant to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{"city": "Paris"}',
  ])("reads the call %s", (text) => {
    expect(bothCuts(text)).toEqual({ content: "", calls: [PARIS] });
  });

  it("drops the markup of answers", () => {
    expect(bothCuts("<|channel|>final<|message|>Hello, you <b>there</b>.<|return|>")).toEqual({
      content: "Hello, you <b>there</b>.",
      calls: [],
    });
    expect(bothCuts("<|start|>assistant<|channel|>final<|message|>Hello.")).toEqual({
      content: "Hello.",
      calls: [],
    });
  });

  it("reads what is said before a call", () => {
    const preamble = "<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant";
    expect(bothCuts(`${preamble}${format.print([PARIS])}<|call|>`)).toEqual({
      content: "I will look.",
      calls: [PARIS],
    });
  });

  it("lets a message end where the next one begins", () => {
    expect(bothCuts(`<|channel|>final<|message|>Well.<|start|>assistant${format.print([PARIS])}`)).toEqual({
      content: "Well.",
      calls: [PARIS],
    });
  });

  it("reads several calls, and calls without arguments", () => {
    const now = { name: "now", arguments: "{}" };
    expect(bothCuts(format.print([PARIS, now]))).toEqual({ content: "", calls: [PARIS, now] });
    expect(bothCuts("<|channel|>commentary to=functions.now<|message|><|call|>").calls).toEqual([now]);
  });

  it("leaves its thoughts to the reasoning, and the rest to the parser", async () => {
    const renderer = new TemplateRenderer();
    const template = templateOf("harmony", renderer);
    const names = [...format.markup, "<|call|>"];
    const words = [
      "analysis",
      "Hm.",
      "assistant",
      "final",
      "Rain",
      " to=functions.get_weather",
      PARIS.arguments,
    ];
    const table = tableOf([
      ...names.map((name) => controlToken(name)),
      ...words.map((word) => textToken(word)),
    ]);
    const pipeline = (): TextPipeline =>
      new TextPipeline({
        table,
        stops: [],
        includeStop: false,
        skipControl: true,
        minTokens: 0,
        reasoning: template.reasoning && { ...template.reasoning, opened: false },
        calls: { parser: format.createParser(), markers: keptControls(format, table) },
      });
    const outputOf = (...texts: readonly string[]): unknown[] => {
      const all = [...names, ...words];
      const one = pipeline();
      const deltas = [
        ...one.push(
          texts.map((text) => all.indexOf(text)),
          undefined,
        ),
        ...one.flush(true),
      ];
      return deltas.map((delta) => ("name" in delta ? delta.name : delta.text));
    };
    const thoughts = ["<|channel|>", "analysis", "<|message|>", "Hm.", "<|end|>", "<|start|>", "assistant"];
    expect(outputOf(...thoughts, "<|channel|>", "final", "<|message|>", "Rain")).toEqual(["Hm.", "Rain"]);
    expect(
      outputOf(...thoughts, " to=functions.get_weather", "<|message|>", PARIS.arguments, "<|call|>"),
    ).toEqual(["Hm.", "get_weather", PARIS.arguments]);
    await renderer.close();
  });

  it("takes text without markup as content", () => {
    for (const text of ["Hello.", "to be", "<b>", "<|start|>of a story<|x|>", " t", "a <|end"]) {
      expect(bothCuts(text)).toEqual({ content: text, calls: [] });
    }
    const broken = "<|channel|>commentary to=functions.f<|message|>no JSON";
    expect(bothCuts(broken)).toEqual({ content: broken, calls: [] });
  });

  it("leaves what there is of a call that is cut off", () => {
    expect(bothCuts('<|channel|>commentary to=functions.f<|message|>{"a": "b', false)).toEqual({
      content: "",
      calls: [{ name: "f", arguments: '{"a": "b' }],
    });
    expect(bothCuts("<|channel|>comm", false)).toEqual({ content: "", calls: [] });
  });

  it("gives the same pieces however the text is cut, and ends", () => {
    const part = fc.constantFrom(
      ...format.markup,
      ...format.markup.map((text) => text.slice(0, 4)),
      ...' to=functions.f assistant commentary final {"a": } "b" x é😀'.split(" "),
      " to=functions.f",
      " ",
      "\n",
    );
    const text = fc.array(part, { maxLength: 14 }).map((parts) => parts.join(""));
    fc.assert(
      fc.property(text, fc.array(fc.nat(80)), fc.boolean(), (whole, places, complete) => {
        const chunks = cutAt(Array.from(whole), places).map((units) => units.join(""));
        const { content, calls } = read(format, chunks, { complete });
        const once = read(format, [whole], { complete });
        expect({ content, calls }).toEqual({ content: once.content, calls: once.calls });
      }),
      { numRuns: 1500 },
    );
  });
});
