/** Structured output: what the schema allows and nothing else, whatever the model would rather say. */
import { Ajv } from "ajv";
import { describe, expect, test } from "vitest";
import { asking, bodyOf, chat, chatStream, completionStream, found, MODEL, said, server } from "./harness.ts";
import type { Chat } from "./harness.ts";

const ajv = new Ajv({ strict: false });

const textOf = (answer: Chat): string => answer.choices[0]?.message.content ?? "";
const jsonSchema = (schema: object, strict = true): object => ({
  response_format: { type: "json_schema", json_schema: { name: "answer", strict, schema } },
});
const object = (properties: Record<string, object>, rest: object = {}): object => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
  ...rest,
});

/** Both kinds of answer, greedy and drawn: all that finish satisfy, and all of pocket's finish. */
async function mustSatisfy(schema: object): Promise<readonly unknown[]> {
  const values: unknown[] = [];
  const validate = ajv.compile(schema);
  for (const sampling of [{ temperature: 0 }, { temperature: 1, seed: 3 }]) {
    const ask = { ...asking("Hello"), ...jsonSchema(schema), max_tokens: 500, ...sampling };
    const whole = await chat(ask);
    // Another model may never come to an end of a list or a chain.
    const finish = whole.choices[0]?.finish_reason;
    expect(finish).toEqual(found("stop", expect.stringMatching(/^(stop|length)$/)));
    if (finish === "length") continue;
    const value: unknown = JSON.parse(textOf(whole));
    expect([value, validate(value), validate.errors]).toEqual([value, true, null]);
    expect((await chatStream(ask)).content).toBe(textOf(whole));
    values.push(value);
  }
  return values;
}

describe("json_object", () => {
  test("T24 is an object that ends right after its brace, without the word json in the prompt", async () => {
    const ask = {
      ...asking("Extract name and age: Bob is 42 years old."),
      response_format: { type: "json_object" },
    };
    const text = textOf(await chat({ ...ask, max_tokens: 200 }));
    expect(typeof JSON.parse(text)).toBe("object");
    expect(Array.isArray(JSON.parse(text))).toBe(false);
    expect(text).toMatch(/^\{[^]*\}$/);
    const forced = await chat({
      ...asking("Hello"),
      response_format: { type: "json_object" },
      max_tokens: 500,
    });
    // A tiny model may never come to an end of what it did not want to say; then it is cut off, not repaired.
    if (forced.choices[0]?.finish_reason === "length") expect(textOf(forced)).toMatch(/^\{"/);
    else expect(JSON.parse(textOf(forced))).toBeTypeOf("object");
  });

  test("T25, row 71: never runs away into white space", async () => {
    for (const seed of [1, 2, 3]) {
      for (const format of [
        { response_format: { type: "json_object" } },
        jsonSchema(object({ a: { type: "number" } })),
      ]) {
        const answer = await chat({ ...asking("Hello"), ...format, temperature: 1, seed, max_tokens: 500 });
        // White space inside strings is the model's own.
        expect(textOf(answer).replaceAll(/"(?:[^"\\]|\\.)*"?/g, '""')).not.toMatch(/\s{9}/);
      }
    }
  });
});

describe("json_schema", () => {
  test("T26 anyOf, $ref inside arrays and recursion are honoured, an unsupported keyword is refused by its name", async () => {
    await mustSatisfy(object({ name: { anyOf: [{ type: "string", maxLength: 10 }, { type: "null" }] } }));
    await mustSatisfy(
      object(
        { points: { type: "array", minItems: 1, maxItems: 3, items: { $ref: "#/$defs/point" } } },
        { $defs: { point: object({ x: { type: "integer", minimum: 0, maximum: 9 } }) } },
      ),
    );
    const node = object({
      v: { enum: [1, 2] },
      next: { anyOf: [{ type: "null" }, { $ref: "#/$defs/node" }] },
    });
    await mustSatisfy({ $ref: "#/$defs/node", $defs: { node } });
    const refused = await server.post("/v1/chat/completions", {
      model: MODEL,
      ...asking("Hello"),
      ...jsonSchema(object({ a: { type: "array", items: { type: "string" }, uniqueItems: true } })),
    });
    const { error } = await bodyOf<{ error: { message: string; param: string } }>(refused, 400);
    expect(error.message).toContain("uniqueItems");
    expect(error.param).toMatch(/^response_format/);
  });

  test("T27 patterns and bounds are enforced, with their anchors understood", async () => {
    const schema = object({
      code: { type: "string", pattern: "^[A-Z]{3}$" },
      stars: { type: "integer", minimum: 1, maximum: 5 },
    });
    for (const value of await mustSatisfy(schema)) {
      expect(value).toEqual({
        code: expect.stringMatching(/^[A-Z]{3}$/),
        stars: expect.toSatisfy((stars: number) => [1, 2, 3, 4, 5].includes(stars)),
      });
    }
  });

  test("T28 leaves the reasoning free and holds the content alone", async () => {
    const schema = object({ sum: { type: "integer", minimum: 0, maximum: 99 } });
    const ask = {
      ...asking("What is 7 + 5?"),
      ...jsonSchema(schema),
      chat_template_kwargs: { enable_thinking: true },
      max_tokens: 300,
    };
    const answer = await chat(ask);
    const message = answer.choices[0]?.message as { content: string; reasoning_content?: string } | undefined;
    expect(message?.reasoning_content).toEqual(found(expect.stringMatching(/7 \+ 5 = \d/), undefined));
    expect(ajv.validate(schema, JSON.parse(message?.content ?? ""))).toBe(true);
    expect((await chatStream(ask)).content).toBe(message?.content);
  });
});

describe("grammars", () => {
  test("T57 that are wrong, and patterns that cannot be compiled, are a 400", async () => {
    const wrong: [object, string][] = [
      [{ grammar: 'root ::= "a' }, "grammar"],
      [{ grammar: "root ::= nosuch" }, "grammar"],
      [{ grammar: "root ::= root" }, "grammar"],
      [{ guided_regex: "(((" }, "guided_regex"],
      [{ guided_regex: "(a)\\1" }, "guided_regex"],
      [jsonSchema(object({ a: { type: "string", pattern: "(" } })), "response_format"],
    ];
    for (const [fields, param] of wrong) {
      const body = { model: MODEL, ...asking("Hello"), ...fields };
      const { error } = await bodyOf<{ error: { param: string } }>(
        await server.post("/v1/chat/completions", body),
        400,
      );
      expect(error.param).toMatch(new RegExp(`^${param}`));
    }
  });

  test("T81 log probabilities of what a grammar forbids are finite or left out, and no text is lost", async () => {
    const ask = { ...asking("Hello"), guided_choice: ["yes", "no"], logprobs: true, top_logprobs: 20 };
    const { chunks, content } = await chatStream(ask);
    expect(["yes", "no"]).toContain(content);
    const tokens = chunks.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? []);
    expect(Buffer.from(tokens.flatMap(({ bytes }) => bytes ?? [])).toString()).toBe(content);
    for (const token of tokens) {
      for (const { logprob } of [token, ...token.top_logprobs]) expect(Number.isFinite(logprob)).toBe(true);
    }
  });

  test("allowed_token_ids and bad_words say what may be drawn, beside a grammar too", async () => {
    interface Ids {
      readonly token_ids: readonly number[];
    }
    const idsOf = (answer: Chat): readonly number[] =>
      (answer.choices[0] as Partial<Ids> | undefined)?.token_ids ?? [];
    const ask = { ...asking("What is the capital of France?"), return_token_ids: true, max_tokens: 12 };
    const tokens = async (content: string): Promise<number[]> =>
      (await bodyOf<{ tokens: number[] }>(await server.post("/tokenize", { content }))).tokens;
    const allowed = [...(await tokens(" Paris")), ...(await tokens(" Rome"))];
    for (const sampling of [{ temperature: 0 }, { temperature: 1.5, seed: 3 }]) {
      const only = await chat({ ...ask, ...sampling, allowed_token_ids: allowed });
      expect(only.choices[0]?.finish_reason).toBe("length");
      expect([...new Set(idsOf(only))].filter((token) => !allowed.includes(token))).toEqual([]);
      const [first = 0] = allowed;
      const biased = await chat({
        ...ask,
        ...sampling,
        allowed_token_ids: allowed,
        logit_bias: { [first]: -100 },
      });
      expect(idsOf(biased)).not.toContain(first);
    }
    // So light a penalty hardly changes no choice between them, nor does one between those that a bias forces.
    const logit_bias = Object.fromEntries(allowed.map((token) => [token, 100]));
    for (const only of [{ allowed_token_ids: allowed }, { logit_bias }]) {
      const free = idsOf(await chat({ ...ask, ...only, temperature: 0 }));
      for (const penalty of [{ repeat_penalty: 1.02 }, { repeat_penalty: 0.98 }, { frequency_penalty: 1e-3 }])
        expect(idsOf(await chat({ ...ask, ...only, ...penalty, temperature: 0 }))).toEqual(free);
    }
    expect(textOf(await chat(ask))).toEqual(said("The capital of France is Paris."));
    for (const bad_words of [["Paris"], ["capital of France"]]) {
      const text = textOf(await chat({ ...ask, bad_words }));
      expect(text).not.toContain(bad_words[0]);
      expect(text).toEqual(
        said(bad_words[0] === "Paris" ? /^The capital of France is / : /^The capital of /),
      );
      expect((await chatStream({ ...ask, bad_words })).content).toBe(text);
    }
    const choose = { ...ask, guided_choice: ["Paris", "Rome"], bad_words: ["Paris"] };
    expect(textOf(await chat(choose))).toEqual(said(/^(Rome|Paris)$/));
    const none = { model: MODEL, ...ask, grammar: 'root ::= "Rome"', allowed_token_ids: await tokens("x") };
    expect(await bodyOf(await server.post("/v1/chat/completions", none), 400)).toMatchObject({
      error: { param: "allowed_token_ids", code: "invalid_value" },
    });
  });

  test("T80 a token banned by logit_bias is never drawn, also under a grammar", async () => {
    const ask = { prompt: "The capital of France is", max_tokens: 8 };
    const { chunks, content } = await completionStream({ ...ask, return_token_ids: true });
    expect(content).toEqual(said(/Paris/));
    const [banned] = (chunks[0]?.choices[0] as { token_ids?: number[] } | undefined)?.token_ids ?? [];
    const bias = { [String(banned)]: -100 };
    const without = await completionStream({ ...ask, return_token_ids: true, logit_bias: bias });
    const drawn = without.chunks.flatMap(
      ({ choices }) => (choices[0] as { token_ids?: number[] } | undefined)?.token_ids ?? [],
    );
    expect(drawn).not.toContain(banned);
    expect(drawn.length).toBeGreaterThan(1);
    const choose = { ...asking("What is the capital of France?"), guided_choice: ["Paris", "Rome"] };
    const chosen = await chat({ ...choose, return_token_ids: true });
    expect(["Paris", "Rome"]).toContain(textOf(chosen));
    expect(textOf(chosen)).toEqual(said("Paris"));
    const [first] = (chosen.choices[0] as { token_ids?: number[] } | undefined)?.token_ids ?? [];
    const pieces = await bodyOf<{ tokens: { id: number; piece: unknown }[] }>(
      await server.post("/tokenize", { content: "Paris Pari Par Pa P", with_pieces: true }),
    );
    const begins = pieces.tokens.filter(({ piece }) => typeof piece === "string" && piece.startsWith("P"));
    const noParis = Object.fromEntries(
      [first, ...begins.map(({ id }) => id)].map((id) => [String(id), -100]),
    );
    expect(textOf(await chat({ ...choose, logit_bias: noParis }))).toBe("Rome");
  });
});
