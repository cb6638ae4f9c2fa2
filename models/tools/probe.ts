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
  /** A text, then a number. */
  readonly arguments: Readonly<Record<string, string | number>>;
}

export const FIRST_CALL: ProbeCall = {
  id: "weftid001",
  name: "weft_alpha",
  arguments: { weft_text: "weft value", weft_number: 7301 },
};

export const SECOND_CALL: ProbeCall = {
  id: "weftid002",
  name: "weft_beta",
  arguments: { weft_other: "weft thing", weft_count: 3709 },
};

const ANSWER = "§weft answer§";
const RESULT = "§weft result§";
const DESCRIPTION = "§weft description§";

const TOOLS = [FIRST_CALL, SECOND_CALL].map((call) => ({
  type: "function",
  function: {
    name: call.name,
    description: DESCRIPTION,
    parameters: {
      type: "object",
      properties: Object.fromEntries(
        Object.entries(call.arguments).map(([key, value]) => [key, { type: typeof value }]),
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
  /** Prompt with tools; "" when the template fails. */
  readonly withTools: string;
  readonly showsDefinitions: boolean;
  readonly showsResults: boolean;
}

export async function probeTools(template: ProbedTemplate): Promise<ProbeResult> {
  const answer = await template.probe([user(), { role: "assistant", content: ANSWER }], TOOLS);
  const turnOf = async (calls: readonly ProbeCall[]): Promise<string | undefined> => {
    const rendered = await template.probe([user(), assistant(calls)], TOOLS);
    if (rendered === undefined || answer === undefined) return undefined;
    const turn = turnWithout(rendered, answer, template.endTexts);
    return calls.every((call) => turn.includes(call.name)) ? turn : undefined;
  };
  const result = { role: "tool", tool_call_id: FIRST_CALL.id, name: FIRST_CALL.name, content: RESULT };
  const finished = await template.probe([user(), assistant([FIRST_CALL]), result], TOOLS);
  return {
    one: await turnOf([FIRST_CALL]),
    two: await turnOf([FIRST_CALL, SECOND_CALL]),
    withTools: answer ?? "",
    showsDefinitions: (answer ?? finished ?? "").includes(DESCRIPTION),
    showsResults: finished?.includes(RESULT) === true,
  };
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

/** The assistant's turn without what an answer has around it as well. */
function turnWithout(rendered: string, answer: string, endTexts: readonly string[]): string {
  const at = answer.indexOf(ANSWER);
  if (at === -1) return rendered;
  const start = beforeOpenTag(rendered, commonLength(rendered, answer.slice(0, at)));
  let turn = rendered.slice(start);
  const closing = answer.slice(at + ANSWER.length);
  const shared = closingTails(closing).find((tail) => turn.endsWith(tail));
  if (shared !== undefined) turn = turn.slice(0, -shared.length);
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
