/** GBNF as strangers write it, by a seed: rules that recurse, repeat and branch without sense, and texts that are none. */
import { mutated } from "./mutate-text.ts";

const COUNTS = [0, 1, 2, 3, 20, 100];
const WILD_COUNTS = [...COUNTS, 2000, 2001, 1e9];
const CHARACTERS = [
  "a",
  "b",
  "0",
  " ",
  "é",
  "漢",
  "😀",
  "\\n",
  '\\"',
  "\\\\",
  "\\x41",
  "\\u00e9",
  "\\U0001F600",
];

export function randomGrammarText(random: () => number): string {
  const below = (bound: number): number => Math.floor(random() * bound);
  const pick = <Item>(items: readonly [Item, ...Item[]] | readonly Item[]): Item =>
    items[below(items.length)] as Item;
  // One wrong word spoils a whole text, so that most have none.
  const wild = random() < 0.3;
  const names = ["root", ...Array.from({ length: below(6) }, (_, i) => `r${i}`)];
  const characters = (): string =>
    Array.from({ length: wild ? below(5) : 1 + below(4) }, () =>
      pick(wild ? [...CHARACTERS, "\\q"] : CHARACTERS),
    ).join("");
  const repetition = (): string => {
    const counts = [pick(wild ? WILD_COUNTS : COUNTS), pick(wild ? WILD_COUNTS : COUNTS)];
    const [least = 0, most = 0] = wild ? counts : counts.sort((one, other) => one - other);
    const all = ["", "", "", "", "*", "+", "?", `{${least}}`, `{${least},}`, `{${least},${most}}`];
    return pick(wild ? [...all, "**", "{,3}"] : all);
  };
  const item = (depth: number, rule: number): string => {
    const kind = below(depth > 0 ? 7 : 5);
    if (kind < 2) return `"${characters()}"`;
    if (kind === 2)
      return `[${pick(["", "^"])}${pick(wild ? ["a-z", "0-9", "z-a", "\\]", "^", "-", ""] : ["a-z", "0-9", "\\]"])}]`;
    // A rule that begins with itself is refused, so that most refer to later ones.
    if (kind === 3) return pick(wild ? [...names, "missing"] : [...names.slice(rule + 1), "."]);
    if (kind === 4) return pick(wild ? ['""', "<think>", "<[5]>", "!<[5]>", "."] : [".", "[^0]"]);
    return `(${alternatives(depth - 1, rule)})`;
  };
  const alternatives = (depth: number, rule: number): string =>
    Array.from({ length: 1 + below(4) }, () =>
      Array.from({ length: wild ? below(4) : 1 + below(3) }, () => item(depth, rule) + repetition()).join(
        " ",
      ),
    ).join(pick([" | ", "|", " |\n  "]));
  const rules = names.map(
    (name, i) => `${name} ${wild ? pick(["::=", "::=", ":="]) : "::="} ${alternatives(3, i)}`,
  );
  const text = rules.join(pick(["\n", "\r\n", "\n\n# comment\n"]));
  return wild ? mutated(text, random) : text;
}
