/** Texts that are nearly those of a grammar. */

const INSERTED = [
  '"',
  "\\",
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  " ",
  "0",
  "1",
  "9",
  ".",
  "-",
  "e",
  "a",
  "z",
  "A",
  "\n",
  "é",
  "\u{1F600}",
];

export function mutated(text: string, random: () => number): string {
  const characters = Array.from(text);
  const at = Math.floor(random() * (characters.length + 1));
  const other = INSERTED[Math.floor(random() * INSERTED.length)] ?? "x";
  switch (Math.floor(random() * 5)) {
    case 0:
      characters.splice(at, 1);
      break;
    case 1:
      characters.splice(at, 0, other);
      break;
    case 2:
      characters.splice(at, 1, other);
      break;
    case 3:
      characters.splice(at, 2, ...characters.slice(at, at + 2).reverse());
      break;
    default:
      characters.splice(at);
  }
  return characters.join("");
}
