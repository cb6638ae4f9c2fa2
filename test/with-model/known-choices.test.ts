/** What is known of the places in a grammar, against the runtime's own states: grammars of schemas, random ones, and odd bytes. */
import { beforeAll, expect, test } from "vitest";
import { addonBindingsOf, addonModelOf } from "../../engine/llama/addon.ts";
import { GrammarMap } from "../../engine/grammar/grammar-map.ts";
import { readGbnf } from "../../engine/grammar/gbnf-rules.ts";
import { GrammarCache } from "../../engine/llama/grammar.ts";
import { Walk } from "../../engine/llama/known-choices.ts";
import { readVocabulary } from "../../engine/llama/vocabulary.ts";
import { checkAmbiguity } from "../../models/grammar/check-ambiguity.ts";
import { GrammarBuilder, printGrammar } from "../../models/grammar/grammar.ts";
import { GrammarError } from "../../models/grammar/grammar-error.ts";
import { compileJsonSchema, SchemaError } from "../../models/grammar/json-schema.ts";
import { parseGbnf } from "../../models/grammar/parse-gbnf.ts";
import { seededRandom } from "../support/grammar-sampler.ts";
import { randomGrammarText } from "../support/grammar-text.ts";
import { CHOICE, JSON_OBJECT, TEXT_THEN_DIGIT } from "../support/grammars.ts";
import { SchemaMaker } from "../support/schema-arbitrary.ts";
import type { Vocabulary } from "../../engine/llama/vocabulary.ts";

/** Also a long run's, WEFT_FUZZ_GRAMMARS=1000 from WEFT_FUZZ_SEED on, and another vocabulary's: WEFT_FUZZ_MODEL=model.gguf. */
const GRAMMARS = Number(process.env["WEFT_FUZZ_GRAMMARS"] ?? 40);
const FIRST_SEED = Number(process.env["WEFT_FUZZ_SEED"] ?? 0);
const MODEL = process.env["WEFT_FUZZ_MODEL"] ?? "models/pocket.gguf";
const OUTPUTS = 2;
const MOST_TOKENS = 40;
/** Ways of reading a text; the runtime takes milliseconds for a question about hundreds, and nothing more is seen there. */
const MOST_WAYS = 24;
/** Beside the choices: all tokens, or of a large vocabulary many, at some places, and a few at the others. */
const WHOLE_EVERY = 8;
const MOST_COMPARED = 4096;
const FEW_COMPARED = 256;

let vocabulary: Vocabulary;
let grammars: GrammarCache;

beforeAll(async () => {
  // oxlint-disable-next-line no-restricted-imports -- the native grammar engine is what our own is compared with
  const { getLlama } = await import("node-llama-cpp");
  const llama = await getLlama({ gpu: false, build: "never", logger: () => undefined });
  const loaded = await llama.loadModel({ modelPath: MODEL, vocabOnly: true });
  const model = addonModelOf(loaded);
  vocabulary = readVocabulary(model, loaded.fileInfo.metadata.tokenizer.ggml.tokens.length);
  grammars = new GrammarCache({ bindings: addonBindingsOf(llama), model, vocabulary });
});

interface Seen {
  grammars: number;
  few: number;
  many: number;
  /** Tokens asked for one by one. */
  tokens: number;
  insideCharacters: number;
}

const nothingSeen = (): Seen => ({ grammars: 0, few: 0, many: 0, tokens: 0, insideCharacters: 0 });

function compare(text: string, random: () => number, seen: Seen): void {
  const rules = readGbnf(text, 1 << 14);
  if (rules === undefined) throw new Error(`not read: ${text}`);
  seen.grammars += 1;
  const map = new GrammarMap(rules, vocabulary);
  for (let output = 0; output < OUTPUTS; output++) compareOutput(text, map, random, seen);
}

/** Follows a random output, and compares at each of its tokens. */
function compareOutput(text: string, map: GrammarMap, random: () => number, seen: Seen): void {
  const ends = new Set(vocabulary.endTokens);
  const output: number[] = [];
  const walk = new Walk();
  const state = grammars.stateAfter(text, []);
  map.allow(1e8);
  let place = map.start();
  while (output.length < MOST_TOKENS && place.set.stacks.length <= MOST_WAYS) {
    if (place.missing > 0) seen.insideCharacters += 1;
    const choices = grammars.choices(state, text);
    const known = grammars.knownChoices(text, output, walk);
    expect({ text, output, known }).toEqual({ text, output, known: choices ?? "many" });
    seen[choices === undefined ? "many" : "few"] += 1;
    const tokens = someTokens(output.length % WHOLE_EVERY === 0 ? MOST_COMPARED : FEW_COMPARED, random);
    const theirs = tokens.filter((token) => grammars.allows(state, token));
    const ours = tokens.filter((token) => (ends.has(token) ? place.mayEnd : map.takes(place, token)));
    expect({ text, output, tokens: ours }).toEqual({ text, output, tokens: theirs });
    seen.tokens += tokens.length;
    const next = pick(
      [...theirs, ...(choices ?? [])].filter((token) => !ends.has(token)),
      random,
    );
    if (next === undefined) break;
    grammars.take(state, next);
    output.push(next);
    const behind = map.behind(place, next);
    if (behind === undefined) throw new Error(`no place behind ${next} of ${output.join()} in ${text}`);
    if (random() < 0.1) map.forget();
    place = map.current(behind);
  }
  grammars.discard(text);
}

/** Neighbours, beginning anywhere: all of them where there are no more. */
function someTokens(most: number, random: () => number): number[] {
  const { vocabSize } = vocabulary;
  const first = Math.floor(random() * vocabSize);
  return Array.from({ length: Math.min(vocabSize, most) }, (_, i) => (first + i) % vocabSize);
}

/** Long ones, which lead through rules at once, and single bytes, which lead into characters, as often as others. */
function pick(tokens: readonly number[], random: () => number): number | undefined {
  const { tokenBytes, tokenOffsets } = vocabulary;
  const lengthOf = (token: number): number => (tokenOffsets[token + 1] ?? 0) - (tokenOffsets[token] ?? 0);
  const longest = tokens.reduce((most, token) => Math.max(most, lengthOf(token)), 0);
  const bytes = tokens.filter(
    (token) => lengthOf(token) === 1 && (tokenBytes[tokenOffsets[token] ?? 0] ?? 0) > 127,
  );
  const kinds = [tokens, tokens.filter((token) => lengthOf(token) === longest), bytes];
  const kind = kinds[Math.floor(random() * kinds.length)] ?? tokens;
  const from = kind.length > 0 ? kind : tokens;
  return from[Math.floor(random() * from.length)];
}

test("grammars of random schemas", { timeout: 3_600_000 }, async ({ annotate }) => {
  const seen = nothingSeen();
  for (let seed = FIRST_SEED; seed < FIRST_SEED + GRAMMARS; seed++) {
    const random = seededRandom(seed);
    const builder = new GrammarBuilder();
    try {
      const { root } = compileJsonSchema(builder, new SchemaMaker(random).document(), { strict: true });
      compare(printGrammar(builder.build(root)), random, seen);
    } catch (error) {
      if (!(error instanceof SchemaError)) throw error;
    }
  }
  await annotate(JSON.stringify(seen));
  expect(Math.min(...Object.values(seen))).toBeGreaterThan(GRAMMARS / 4);
});

test("random grammars", { timeout: 3_600_000 }, async ({ annotate }) => {
  const seen = nothingSeen();
  for (let seed = FIRST_SEED; seed < FIRST_SEED + GRAMMARS; seed++) {
    const random = seededRandom(seed);
    try {
      const grammar = parseGbnf(randomGrammarText(random));
      checkAmbiguity(grammar, "written");
      compare(printGrammar(grammar), random, seen);
    } catch (error) {
      if (!(error instanceof GrammarError)) throw error;
    }
  }
  await annotate(JSON.stringify(seen));
  expect(Math.min(...Object.values(seen))).toBeGreaterThan(GRAMMARS / 4);
});

/** Not as they are printed: what the runtime makes of these has to be seen by a reader that is not the printer's. */
test.each([
  ["JSON", JSON_OBJECT],
  ["a choice", CHOICE],
  ["all but a character", TEXT_THEN_DIGIT],
  [
    "characters that begin alike",
    String.raw`root ::= ("a" | "aé" | "\u00e8x" | [\U0001F600-\U0001F64F]){2,9} "\xe9"?`,
  ],
  ["any character", 'root ::= (. "é"){1,} | [^à-ÿ\\]-]+ "]"'],
  ["what may be empty", 'root ::= "" | a*\na ::= "x" | "" "y" {2}\n# the end\r\n'],
  ["repetitions of repetitions", 'root ::= ("ab"|"a"){2}{1,3} "é"+? [x] {0,0}'],
  ["recursion", 'root ::= "(" root ")" root | [0-9]+\nroot ::= "[" root? "]" | "."'],
])("as people write them: %s", (_name, text) => {
  const seen = nothingSeen();
  compare(text, seededRandom(1), seen);
  expect(seen.few + seen.many).toBeGreaterThan(4);
});
