/** The functions and constants that Hugging Face gives every chat template. */

/** What `raise_exception` throws, to tell a template's refusal from its faults. */
export class TemplateRefusal extends Error {}

/** Python's sandbox stops at 100,000; ten times that still fits the worker's heap. */
const RANGE_LIMIT = 1_000_000;

/** Names that a request may not set. */
export const RESERVED_VARIABLES: ReadonlySet<string> = new Set([
  "messages",
  "tools",
  "add_generation_prompt",
  "bos_token",
  "eos_token",
  "namespace",
  "raise_exception",
  "strftime_now",
  "range",
  "true",
  "false",
  "none",
  "True",
  "False",
  "None",
]);

export const TEMPLATE_GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  raise_exception: (message: unknown): never => {
    throw new TemplateRefusal(String(message));
  },
  strftime_now: (format: string): string => strftime(new Date(), format),
  range,
};

/**
 * What templates of the Llama family call the date: those that cannot ask the clock name a day of 2024, or break, when
 * nobody tells it. Without the time of day, so that prompts go on beginning alike. A request may set other values.
 */
export function dateVariables(date: Date): Readonly<Record<string, string>> {
  return { date_string: strftime(date, "%d %b %Y"), datetime: strftime(date, "%b %d %Y") };
}

/** Python's `range` as a list. */
function range(first: number, second?: number | null, step: number | null = 1): number[] {
  const [start, stop] = typeof second === "number" ? [first, second] : [0, first];
  const by = step ?? 1;
  if (!Number.isInteger(by) || by === 0) throw new RangeError("range() needs a step that is not zero.");
  const length = Math.max(0, Math.ceil((stop - start) / by));
  if (length > RANGE_LIMIT) throw new RangeError(`range() of more than ${RANGE_LIMIT} numbers.`);
  return Array.from({ length }, (_, index) => start + index * by);
}

const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];
const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/** Python's `strftime` in the C locale and local time; a directive it does not know stays as it is. */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)([A-Za-z%])/g, (whole, unpadded: string, directive: string) => {
    const text = directiveText(date, directive);
    if (text === undefined) return whole;
    return unpadded === "-" ? text.replace(/^0+(?=\d)/, "") : text;
  });
}

function directiveText(date: Date, directive: string): string | undefined {
  const two = (value: number): string => String(value).padStart(2, "0");
  const month = MONTHS[date.getMonth()] ?? "";
  const day = DAYS[date.getDay()] ?? "";
  switch (directive) {
    case "Y":
      return String(date.getFullYear());
    case "y":
      return two(date.getFullYear() % 100);
    case "m":
      return two(date.getMonth() + 1);
    case "B":
      return month;
    case "b":
      return month.slice(0, 3);
    case "d":
      return two(date.getDate());
    case "A":
      return day;
    case "a":
      return day.slice(0, 3);
    case "w":
      return String(date.getDay());
    case "j":
      return String(dayOfYear(date)).padStart(3, "0");
    case "H":
      return two(date.getHours());
    case "I":
      return two(date.getHours() % 12 || 12);
    case "p":
      return date.getHours() < 12 ? "AM" : "PM";
    case "M":
      return two(date.getMinutes());
    case "S":
      return two(date.getSeconds());
    case "F":
      return strftime(date, "%Y-%m-%d");
    case "T":
      return strftime(date, "%H:%M:%S");
    case "%":
      return "%";
    default:
      return undefined;
  }
}

function dayOfYear(date: Date): number {
  const millisPerDay = 86_400_000;
  const midnight = Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  return (midnight - Date.UTC(date.getFullYear(), 0, 0)) / millisPerDay;
}
