/** Conversations with calls of made-up tools, rendered to see what a chat template makes of them. */
import type { TemplateMessage } from "../chat-template-messages.ts";

/** A chat template as far as tools are found out with it. */
export interface ProbedTemplate {
  /** Jinja. */
  readonly source: string;
  /** Texts of the tokens that end an output. */
  readonly endTexts: readonly string[];
  /** The conversation exactly as given, without a generation prompt; undefined when the template fails. */
  probe(
    messages: readonly TemplateMessage[],
    tools: readonly unknown[] | undefined,
  ): Promise<string | undefined>;
}

export interface ProbeCall {
  /** Nine letters and digits, which is all that some templates take. */
  readonly id: string;
  readonly name: string;
  /** A text, then a number, in the order of the alphabet, in which some templates write them. */
  readonly arguments: Readonly<Record<string, string | number>>;
}

export const FIRST_CALL: ProbeCall = {
  id: "weftid001",
  name: "weft_alpha",
  arguments: { weft_label: "weft value", weft_number: 7301 },
};

export const SECOND_CALL: ProbeCall = {
  id: "weftid002",
  name: "weft_beta",
  arguments: { weft_item: "weft thing", weft_size: 3709 },
};

const ANSWER = "§weft answer§";
const RESULT = "§weft result§";
const DESCRIPTION = "§weft description§";

/** With everything that a template may ask for. */
export const PROBE_TOOLS = [FIRST_CALL, SECOND_CALL].map((call) => ({
  type: "function",
  function: {
    name: call.name,
    description: DESCRIPTION,
    parameters: {
      type: "object",
      properties: Object.fromEntries(
        Object.entries(call.arguments).map(([key, value]) => [
          key,
          { type: typeof value, description: DESCRIPTION },
        ]),
      ),
      required: Object.keys(call.arguments),
    },
  },
}));

export interface ProbeResult {
  /** Which of the assistant's turn belongs to one call; undefined when the template leaves it out. */
  readonly one: string | undefined;
  /** The same for two calls. */
  readonly two: string | undefined;
  /** The turns show ids where others show names; they were rendered with ids that have the names in them. */
  readonly namesInIds: boolean;
  /** Prompt with tools; "" when the template fails. */
  readonly withTools: string;
  readonly showsDefinitions: boolean;
  readonly showsResults: boolean;
}

/** Of a template that does not even render an answer. */
const NOTHING: ProbeResult = {
  one: undefined,
  two: undefined,
  namesInIds: false,
  withTools: "",
  showsDefinitions: false,
  showsResults: false,
};

/** @throws {TemplateError} `template_busy`. */
export async function probeTools(template: ProbedTemplate): Promise<ProbeResult> {
  const answered = [user(), { role: "assistant", content: ANSWER }];
  const withTools = await template.probe(answered, PROBE_TOOLS);
  // A template that fails with tools may still write calls.
  const tools = withTools === undefined ? undefined : PROBE_TOOLS;
  const answer = withTools ?? (await template.probe(answered, undefined));
  if (answer === undefined) return NOTHING;
  const turnOf = async (calls: readonly ProbeCall[]): Promise<string | undefined> => {
    const rendered = await template.probe([user(), assistant(calls)], tools);
    if (rendered === undefined) return undefined;
    const turn = turnWithout(rendered, answer, template.endTexts);
    return calls.every((call) => turn.includes(call.name)) ? turn : undefined;
  };
  const turnsOf = async (first: ProbeCall, second: ProbeCall): Promise<Pick<ProbeResult, "one" | "two">> => ({
    one: await turnOf([first]),
    two: await turnOf([first, second]),
  });
  const named = await turnsOf(FIRST_CALL, SECOND_CALL);
  const namesInIds = named.one === undefined;
  const turns = namesInIds ? await turnsOf(withNamedId(FIRST_CALL, 0), withNamedId(SECOND_CALL, 1)) : named;
  const result = { role: "tool", tool_call_id: FIRST_CALL.id, name: FIRST_CALL.name, content: RESULT };
  const finished = await template.probe([user(), assistant([FIRST_CALL]), result], tools);
  return {
    ...turns,
    namesInIds: namesInIds && turns.one !== undefined,
    withTools: withTools ?? "",
    showsDefinitions: withTools?.includes(DESCRIPTION) === true,
    showsResults: finished?.includes(RESULT) === true,
  };
}

function withNamedId(call: ProbeCall, index: number): ProbeCall {
  return { ...call, id: namedId(call.name, index) };
}

/**
 * The id that models with names in their ids give a call.
 * @param index Of the call in the conversation.
 */
export function namedId(name: string, index: number): string {
  return `functions.${name}:${index}`;
}

function user(): TemplateMessage {
  return { role: "user", content: "§weft question§" };
}

function assistant(calls: readonly ProbeCall[]): TemplateMessage {
  const toolCalls = calls.map(({ id, name, arguments: given }) => ({
    id,
    type: "function",
    function: { name, arguments: JSON.stringify(given) },
  }));
  return { role: "assistant", content: "", tool_calls: toolCalls };
}

/** What some templates put before every call. */
const EMPTY_REASONING = /^\s*<[^<>]*think[^<>]*>\s*<[^<>]*think[^<>]*>\s*/i;

/** The assistant's turn without what an answer has around it as well. */
function turnWithout(rendered: string, answer: string, endTexts: readonly string[]): string {
  const at = answer.indexOf(ANSWER);
  if (at === -1) return rendered;
  const start = beforeOpenTag(rendered, commonLength(rendered, answer.slice(0, at)));
  let turn = rendered.slice(start);
  const closing = answer.slice(at + ANSWER.length);
  const shared = closingTails(closing).find((tail) => turn.endsWith(tail));
  if (shared !== undefined) turn = turn.slice(0, -shared.length);
  turn = turn.replace(EMPTY_REASONING, "");
  for (const end of endTexts) {
    const found = end === "" ? -1 : turn.indexOf(end);
    if (found !== -1) turn = turn.slice(0, found);
  }
  return turn;
}

/** The text and its tails that begin with a tag, longest first. */
function closingTails(closing: string): string[] {
  const tags = [...closing.matchAll(/</g)].map((match) => closing.slice(match.index));
  return [closing, ...tags].filter((tail) => tail !== "");
}

export function commonLength(a: string, b: string): number {
  let length = 0;
  while (length < Math.min(a.length, b.length) && a[length] === b[length]) length++;
  return length;
}

/** Moves an offset out of the middle of a tag. */
function beforeOpenTag(text: string, offset: number): number {
  const open = text.lastIndexOf("<", offset - 1);
  return offset > 0 && open !== -1 && !text.slice(open, offset).includes(">") ? open : offset;
}
