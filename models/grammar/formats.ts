/** The formats of strings that are enforced, as regular expressions that say no more than their standards. */

const DATE = [
  String.raw`\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))`,
  String.raw`(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29`,
].join("|");
const CLOCK = String.raw`(?:[01]\d|2[0-3]):[0-5]\d`;
const TIME = String.raw`${CLOCK}:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-]${CLOCK})`;
const NUMBER = String.raw`\d{1,9}`;
const DURATION_TIME = `T(?:${NUMBER}H(?:${NUMBER}M)?(?:${NUMBER}S)?|${NUMBER}M(?:${NUMBER}S)?|${NUMBER}S)`;
const DURATION_DATE = `(?:${NUMBER}Y(?:${NUMBER}M)?(?:${NUMBER}D)?|${NUMBER}M(?:${NUMBER}D)?|${NUMBER}D)`;
const OCTET = String.raw`(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)`;
const H16 = "[0-9A-Fa-f]{1,4}";
const UUID = "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}";
/** Eight labels of this length stay below the 253 characters that a name may have. */
const LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,28}[A-Za-z0-9])?";
const ATOM_CHAR = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]";
const PATH_CHAR = "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})";

function ipv6(): string {
  const forms = [`(?:${H16}:){7}${H16}`, `(?:${H16}:){1,7}:`, `:(?::${H16}){1,7}`, "::"];
  for (let before = 1; before <= 6; before++)
    forms.push(`(?:${H16}:){${before}}(?::${H16}){1,${7 - before}}`);
  return forms.join("|");
}

/** Whole texts; without anchors. */
export const FORMATS: ReadonlyMap<string, string> = new Map([
  ["date", DATE],
  ["time", TIME],
  ["date-time", `(?:${DATE})T${TIME}`],
  ["duration", `P(?:${NUMBER}W|${DURATION_DATE}(?:${DURATION_TIME})?|${DURATION_TIME})`],
  // Below the 254 characters that an address may have.
  ["email", String.raw`${ATOM_CHAR}{1,32}(?:\.${ATOM_CHAR}{1,16}){0,2}@(?:${LABEL}\.){1,4}[A-Za-z0-9]{2,24}`],
  ["hostname", String.raw`${LABEL}(?:\.${LABEL}){0,7}`],
  ["ipv4", String.raw`(?:${OCTET}\.){3}${OCTET}`],
  ["ipv6", ipv6()],
  ["uuid", UUID],
  [
    "uri",
    String.raw`[A-Za-z][A-Za-z0-9+.-]{0,31}://${LABEL}(?:\.${LABEL}){0,7}(?::\d{1,5})?(?:/${PATH_CHAR}*)*(?:\?(?:${PATH_CHAR}|[/?])*)?(?:#(?:${PATH_CHAR}|[/?])*)?`,
  ],
]);

/** Formats that say how a value is stored or shown, not how it is written. */
export const DESCRIPTIVE_FORMATS: ReadonlySet<string> = new Set([
  "int32",
  "int64",
  "float",
  "double",
  "password",
]);

/**
 * Patterns that libraries write beside a format and that are too much for an automaton beside it; each text of the format matches.
 */
export const IMPLIED_PATTERNS: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  [
    "duration",
    new Set([
      String.raw`^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$`,
    ]),
  ],
  [
    "hostname",
    new Set([
      String.raw`^(?=.{1,253}\.?$)[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[-0-9a-zA-Z]{0,61}[0-9a-zA-Z])?)*\.?$`,
    ]),
  ],
]);
