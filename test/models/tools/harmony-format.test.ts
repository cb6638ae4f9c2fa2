import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GrammarMatcher } from "../../../models/grammar/matcher.ts";
import { parseGbnf } from "../../../models/grammar/parse-gbnf.ts";
import { compileConstraint } from "../../../models/output-constraint.ts";
import type { OutputConstraint } from "../../../models/output-constraint.ts";
import { harmonyFormat } from "../../../models/tools/harmony-format.ts";
import { TemplateRenderer } from "../../../models/chat-template.ts";
import { TextPipeline } from "../../../models/text/text-pipeline.ts";
import { keptControls } from "../../../models/tools/kept-controls.ts";
import { sampleGrammar, seededRandom } from "../../support/grammar-sampler.ts";
import { controlToken, cutAt, tableOf, textToken } from "../token-tables.ts";
import { templateOf } from "./fixture-templates.ts";
import { characters, read } from "./parse.ts";

const format = harmonyFormat({
  definitions: true,
  calls: true,
  severalCalls: true,
  namesInIds: false,
  results: true,
});
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

describe("an answer with a format", () => {
  const MARKERS = {
    start: "<|channel|>analysis<|message|>",
    end: "<|end|>",
    controls: ["<|channel|>", "<|message|>"],
  };
  const schema = {
    type: "object",
    properties: { city: { type: "string" }, days: { type: "integer" } },
    required: ["city"],
  };
  const tool = { name: "get_weather", parameters: schema, strict: true, param: "tools" };

  function constraint(changes: Partial<OutputConstraint> = {}): OutputConstraint {
    const param = "response_format";
    return {
      reasoning: { ...MARKERS, opened: false },
      calls: undefined,
      answer: { kind: "json_schema", name: "x", schema, strict: true, at: param, param },
      answerHeader: format.answerHeader,
      ...changes,
    };
  }

  const grammarOf = (changes?: Partial<OutputConstraint>) =>
    parseGbnf(compileConstraint(constraint(changes)).grammar);

  const names = [...format.markup, "<|return|>"];
  const table = tableOf([
    ...names.map((name) => controlToken(name)),
    ...Array.from({ length: 256 }, (_, byte) => ({ ...textToken(""), bytes: Uint8Array.of(byte) })),
  ]);
  const bytesOf = (text: string): number[] => Array.from(Buffer.from(text), (byte) => names.length + byte);
  const tokensOf = (text: string): number[] =>
    text.split(/(<\|[a-z]+\|>)/).flatMap((part) => {
      const control = names.indexOf(part);
      return control === -1 ? bytesOf(part) : [control];
    });

  /** What a client gets of an output. */
  function shown(text: string): { reasoning: string; content: string; calls: number } {
    const pipeline = new TextPipeline({
      table,
      stops: [],
      includeStop: false,
      skipControl: true,
      minTokens: 0,
      reasoning: { ...MARKERS, opened: false },
      calls: { parser: format.createParser([tool]), markers: keptControls(format, table) },
    });
    const seen = { reasoning: "", content: "", calls: 0 };
    for (const delta of [...pipeline.push(tokensOf(text), undefined), ...pipeline.flush(true)]) {
      if (delta.kind === "reasoning" || delta.kind === "content") seen[delta.kind] += delta.text;
      else if (delta.kind === "tool_call") seen.calls++;
    }
    return seen;
  }

  const FINAL = "<|channel|>final<|message|>";
  const ANALYSIS = "<|channel|>analysis<|message|>Hm: {}<|end|>";

  it("stands behind its header, and behind thoughts where the model may think", () => {
    const takes = (text: string, changes?: Partial<OutputConstraint>): boolean =>
      new GrammarMatcher(grammarOf(changes)).accepts(text);
    const answer = `${FINAL}{"city": "Rome"}`;
    expect(takes(answer)).toBe(true);
    expect(takes('<|channel|>final <|constrain|>json<|message|>{"city": "Rome"}')).toBe(true);
    expect(takes(`${ANALYSIS}<|start|>assistant${answer}`)).toBe(true);
    expect(takes(`${ANALYSIS}<|start|>assistant${answer}`, { reasoning: undefined })).toBe(false);
    expect(takes('{"city": "Rome"}')).toBe(false);
    expect(takes(`${ANALYSIS}{"city": "Rome"}`)).toBe(false);
    expect(takes(`${FINAL}{"city": 1}`)).toBe(false);
    expect(takes(`${answer}<|end|>`)).toBe(false);
  });

  it("may give way to a call", () => {
    const calls = { format, names: ["get_weather"], mode: "auto", callable: [tool], parallel: true } as const;
    const grammar = new GrammarMatcher(grammarOf({ calls }));
    const call = '<|channel|>commentary to=functions.get_weather<|message|>{"city": "Rome"}';
    expect(grammar.accepts(call)).toBe(true);
    expect(grammar.accepts(`${ANALYSIS}<|start|>assistant${call}`)).toBe(true);
    expect(grammar.accepts(`${ANALYSIS}<|start|>assistant${FINAL}{"city": "Rome"}`)).toBe(true);
    expect(grammar.accepts(`${FINAL}Hello`)).toBe(false);
  });

  it("is pure JSON for the client, whatever the grammar lets the model write", () => {
    const grammar = grammarOf();
    const random = seededRandom(7);
    let thoughts = 0;
    for (let run = 0; run < 200; run++) {
      const text = sampleGrammar(grammar, random);
      const { reasoning, content, calls } = shown(text);
      expect(JSON.parse(content)).toHaveProperty("city");
      expect(calls).toBe(0);
      expect(reasoning).not.toContain("<|end|>");
      if (text.includes("analysis")) thoughts++;
      else expect(reasoning).toBe("");
    }
    expect(thoughts).toBeGreaterThan(20);
    expect(shown(`${ANALYSIS}<|start|>assistant${FINAL}{"city": "Rome"}`)).toEqual({
      reasoning: "Hm: {}",
      content: '{"city": "Rome"}',
      calls: 0,
    });
  });
});
