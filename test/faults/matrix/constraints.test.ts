/** Grammars, schemas, templates and tools of strangers: rows 61 to 76 of the fault matrix, the heavy ones beside a stream that must not notice. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { abusedServer, errorOf } from "../../support/abused-server.ts";
import type { AbusedServer, Answer } from "../../support/abused-server.ts";

let server: AbusedServer;
beforeAll(async () => {
  server = await abusedServer({ sizes: { contextTokens: 2048 } });
});
afterAll(() => server.close());

const alternatives = (count: number): string =>
  `root ::= ${Array.from({ length: count }, (_, i) => `"${i}"`).join(" | ")}`;

const GRAMMARS: readonly (readonly [name: string, grammar: string])[] = [
  ["61 fifty thousand alternatives", alternatives(50_000)],
  [
    "61 a hundred thousand rules",
    `root ::= "a"\n${Array.from({ length: 100_000 }, (_, i) => `r${i} ::= "a"`).join("\n")}`,
  ],
  ["61 a literal of five megabytes", `root ::= "${"x".repeat(5_000_000)}"`],
  ["62 a rule that begins with itself", 'root ::= root "a" | "b"'],
  ["62 a rule that does not exist", "root ::= nowhere"],
  ["62 no root", 'other ::= "a"'],
  ["62 a text without end", 'root ::= "a'],
  ["62 twenty thousand parentheses", `root ::= ${"(".repeat(20_000)}"a"${")".repeat(20_000)}`],
];

test.each(GRAMMARS)("%s is a 400 before the engine hears of it", async (_name, grammar) => {
  expect(await refused(() => server.chat({ grammar }))).toEqual({ param: "grammar", submitted: 0 });
});

const answerOf = (schema: object): object => ({
  response_format: { type: "json_schema", json_schema: { name: "answer", strict: true, schema } },
});
const object = (properties: object): object => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});
let deep: object = { type: "string" };
for (let depth = 0; depth < 100; depth++) deep = object({ a: deep });

const SCHEMAS: readonly (readonly [name: string, schema: object])[] = [
  ["66 a reference to another machine", object({ a: { $ref: "http://127.0.0.1:1/schema.json" } })],
  ["66 a reference to nothing", object({ a: { $ref: "#/$defs/nothing" } })],
  ["66 a value that never ends", { $ref: "#/$defs/a", $defs: { a: object({ a: { $ref: "#/$defs/a" } }) } }],
  ["68 a pattern that looks behind", object({ a: { type: "string", pattern: "(?<=x)y" } })],
  ["68 a pattern without end", object({ a: { type: "string", pattern: "(?:" } })],
  ["68 a pattern repeated twice", object({ a: { type: "string", pattern: "foo**" } })],
  ["69 a length below itself", object({ a: { type: "string", minLength: 5, maxLength: 2 } })],
  ["69 a multiple of nothing", object({ a: { type: "integer", multipleOf: 0 } })],
];

test.each(SCHEMAS)("%s is a 400 before the engine hears of it", async (_name, schema) => {
  const { param, submitted } = await refused(() => server.chat(answerOf(schema)));
  expect([param, submitted]).toEqual([expect.stringMatching(/^response_format/), 0]);
});

const HEAVY: readonly (readonly [name: string, schema: object])[] = [
  ["66 a value that holds itself", object({ a: { anyOf: [{ type: "null" }, { $ref: "#" }] } })],
  ["68 a pattern that takes others for ever", object({ a: { type: "string", pattern: "^(a+)+$" } })],
  [
    "68 ten thousand groups in each other",
    object({ a: { type: "string", pattern: "(".repeat(10_000) + ")".repeat(10_000) } }),
  ],
  ["69 a number beyond all numbers", object({ a: { type: "integer", maximum: 1e30 } })],
  ["69 a billion members", object({ a: { type: "array", items: { type: "integer" }, minItems: 1e9 } })],
  [
    "69 a choice of a hundred thousand",
    object({ a: { enum: Array.from({ length: 100_000 }, (_, i) => `value ${i}`) } }),
  ],
  [
    "70 five thousand properties",
    object(Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`p${i}`, { type: "string" }]))),
  ],
  ["70 a hundred levels", deep],
];

test.each(HEAVY)("%s is held or refused, and in the meantime nobody waits", async (_name, schema) => {
  const answer = await server.beside(() => server.chat(answerOf(schema)));
  if (answer.status === 200) expect(answer.text).toContain('"finish_reason"');
  else expect(String(errorOf(answer, 400).param)).toMatch(/^(response_format|null)/);
});

test("61 a hundred thousand repetitions are held, and in the meantime nobody waits", async () => {
  const answer = await server.beside(() => server.chat({ grammar: 'root ::= "a"{0,100000}' }));
  expect(`${answer.status} ${answer.text}`).toMatch(/^200 /);
});

test("72 a template of a client is refused", async () => {
  const chat_template = "{% for i in range(1000000000) %}x{% endfor %}";
  expect(await refused(() => server.chat({ chat_template }))).toEqual({
    param: "chat_template",
    submitted: 0,
  });
});

const named = (name: string, parameters: unknown = { type: "object" }): object => ({
  type: "function",
  function: { name, parameters },
});

test.each([
  ["257 of them", { tools: Array.from({ length: 257 }, (_, i) => named(`t${i}`)) }, "tools"],
  ["two of a name", { tools: [named("a"), named("a")] }, "tools[1].function.name"],
  ["a name that is two lines", { tools: [named("a\nb")] }, "tools[0].function.name"],
  ["a name with a quote", { tools: [named('a"b')] }, "tools[0].function.name"],
  ["parameters that are a word", { tools: [named("a", "x")] }, "tools[0].function.parameters"],
  [
    "a choice of one that is not there",
    { tools: [named("a")], tool_choice: { type: "function", function: { name: "b" } } },
    "tool_choice",
  ],
])("75 tools: %s is a 400", async (_name, fields, param) => {
  expect(await refused(() => server.chat(fields))).toEqual({ param, submitted: 0 });
});

test("76 a call that was malformed long ago breaks no later request", async () => {
  const call = { id: "c", type: "function", function: { name: "a", arguments: '{"city": "Par' } };
  const messages = [
    { role: "user", content: "hi" },
    { role: "assistant", content: null, tool_calls: [call] },
    { role: "tool", tool_call_id: "c", content: "no such city" },
    { role: "user", content: "and now?" },
  ];
  const answer = await server.chat({ messages, tools: [named("a")] });
  expect(`${answer.status} ${answer.text}`).toMatch(/^200 /);
});

test.each([
  [
    "loops a million times a million times",
    "{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}",
  ],
  ["is twenty thousand parentheses", `{{ ${"(".repeat(20_000)}1${")".repeat(20_000)} }}`],
  ["refuses everything", "{{ raise_exception('not like this') }}"],
])(
  "73 a model whose template %s answers chats with an error and completions as ever",
  async (_name, chatTemplate) => {
    const strange = await abusedServer({ chatTemplate });
    const chat = await strange.beside(() => strange.chat());
    expect([400, 500]).toContain(chat.status);
    const { message } = errorOf(chat, chat.status);
    expect(message).toMatch(/template/i);
    expect((await strange.complete("as ever")).status).toBe(200);
    await strange.close();
  },
);

/** The field that a refusal names, and how many requests have reached the engine by it. */
async function refused(ask: () => Promise<Answer>): Promise<{ param: string | null; submitted: number }> {
  const chats = (): number => server.engine().submits.filter(({ params }) => params.maxTokens === 4).length;
  const before = chats();
  const error = errorOf(await ask(), 400);
  return { param: error.param, submitted: chats() - before };
}
