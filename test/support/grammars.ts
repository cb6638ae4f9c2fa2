/** Grammars for tests, as texts. */

/** A JSON object of at most three members and about a hundred characters. */
export const JSON_OBJECT = String.raw`
root   ::= "{" ( member ( ", " member ){0,2} )? "}"
member ::= string ": " value
value  ::= item | array | "true" | "false" | "null"
array  ::= "[" ( item ( ", " item ){0,2} )? "]"
item   ::= string | number
string ::= "\"" ( [^"\\\x00-\x1f] | "\\" ["\\/bfnrt] ){0,8} "\""
number ::= "-"? ( "0" | [1-9] [0-9]{0,4} ) ( "." [0-9]{1,4} )?
`;

export const CHOICE = `root ::= "Paris" | "Rome" | "Cape Town"`;

/** Up to 60 characters of any text without "<", then one digit between tags. */
export const TEXT_THEN_DIGIT = `root ::= [^<]{0,60} "<d>" [0-9] "</d>"`;

/** A grammar of about 200,000 characters and four megabytes, of which an output needs one letter. */
export function hugeGrammar(letter: string): string {
  const rules = Array.from({ length: 3000 }, (_, i) => {
    const next = (i + 1) % 3000;
    return `r${i} ::= "abcdefghijklmnopqrst${i}" | [a-z] [a-z]{0,20} r${next}`;
  });
  return `root ::= "${letter}" | "#" r0\n${rules.join("\n")}`;
}
