/** Turns a conversation into the prompt that a model was trained on, with the Jinja template of its file. */
import { isDeepStrictEqual } from "node:util";
import type { PromptPart } from "../engine/protocol.ts";
import { TemplateError } from "./chat-template-error.ts";
import { RESERVED_VARIABLES } from "./chat-template-globals.ts";
import {
  inTurns,
  shapeMessages,
  textOf,
  withContentSuffix,
  withOneSystemMessage,
  withoutSystemMessages,
} from "./chat-template-messages.ts";
import type { TemplateAbilities, TemplateMessage } from "./chat-template-messages.ts";
import type { TemplateRenderer } from "./chat-template-renderer.ts";
import { guardStrings, stringsOf, toPromptParts, unusedCharacters, withoutSentinel } from "./prompt-parts.ts";
import type { ReasoningMarkers } from "./text/reasoning-splitter.ts";
import type { TokenTable } from "./text/token-table.ts";
import { detectToolFormat } from "./tools/detect.ts";
import { PROBE_TOOLS } from "./tools/probe.ts";
import type { ProbedTemplate } from "./tools/probe.ts";
import { toolReshapes } from "./tools/reshape-calls.ts";
import { concernsTools, shapeTools } from "./tools/tool-history.ts";

export { TemplateError } from "./chat-template-error.ts";
export type { TemplateErrorCode } from "./chat-template-error.ts";
export type { TemplateMessage } from "./chat-template-messages.ts";
export { TemplateRenderer } from "./chat-template-renderer.ts";

export interface RenderRequest {
  readonly messages: readonly TemplateMessage[];
  /** Ends the prompt with the beginning of an assistant message. */
  readonly addGenerationPrompt: boolean;
  /** Ends the prompt within the last message, which must be the assistant's; no generation prompt then. */
  readonly continueFinalMessage: boolean;
  readonly tools: readonly unknown[] | undefined;
  /** Further variables for the template. */
  readonly kwargs: Readonly<Record<string, unknown>>;
}

export interface RenderedPrompt {
  readonly parts: readonly PromptPart[];
  /** The prompt as one text, for people. */
  readonly text: string;
  /** The prompt ends inside a reasoning block, so the output begins with reasoning. */
  readonly reasoningOpened: boolean;
}

export interface ChatTemplateOptions {
  /** Jinja. */
  readonly source: string;
  readonly table: TokenTable;
  /** Text of the begin and end tokens; "" when the model has none. */
  readonly bosText: string;
  readonly eosText: string;
  readonly renderer: TemplateRenderer;
}

/** Markers of the model families; a template that knows the end marker belongs to one that writes it. */
const KNOWN_MARKERS: readonly ReasoningMarkers[] = [
  { start: "<think>", end: "</think>" },
  { start: "<mm:think>", end: "</mm:think>" },
  { start: "[THINK]", end: "[/THINK]" },
  { start: "◁think▷", end: "◁/think▷" },
  { start: "<seed:think>", end: "</seed:think>" },
];

/** Harmony's: thoughts are a message of their own, and the marker at its end ends other messages, too. */
const HARMONY_MARKERS: ReasoningMarkers = {
  start: "<|channel|>analysis<|message|>",
  end: "<|end|>",
  controls: ["<|channel|>", "<|message|>"],
};

const PROBE = "weft probe";
const PROBE_NAME = "weft_probe";
const PROBE_KEY = "weft_key";

export class ChatTemplate implements ProbedTemplate {
  readonly source: string;
  /** How models of this template mark what they think; undefined when they do not. */
  readonly reasoning: ReasoningMarkers | undefined;
  readonly #options: ChatTemplateOptions;
  readonly #developerRole: boolean;
  /** Found out by rendering, when first needed. */
  #contentParts: boolean | undefined;
  #argumentObjects: boolean | undefined;
  #callsInsteadOfContent: boolean | undefined;
  #endTexts: readonly string[] | undefined;

  constructor(options: ChatTemplateOptions) {
    this.source = options.source;
    this.reasoning = options.source.includes(HARMONY_MARKERS.start)
      ? HARMONY_MARKERS
      : KNOWN_MARKERS.find((markers) => options.source.includes(markers.end));
    this.#options = options;
    this.#developerRole = options.source.includes("developer");
  }

  /**
   * Tools, calls and results that the template does not show are written into the messages. A template that
   * refuses them is tried again with calls and results in other forms, the last one plain text; each with one system
   * message in front, with user and assistant in turns, and without a system message.
   * @throws {TemplateError} The first attempt's, when all fail.
   */
  async render(request: RenderRequest): Promise<RenderedPrompt> {
    for (const name of Object.keys(request.kwargs)) {
      if (RESERVED_VARIABLES.has(name)) {
        throw new TemplateError("template_rejected", `The template variable "${name}" cannot be set.`);
      }
    }
    const [first, ...others] = await this.#forms(request);
    try {
      return await this.#attempt(first);
    } catch (error) {
      if (!mayBeCured(error)) throw error;
      const tried = [first];
      for (const other of others) {
        const form = other();
        // Different changes come to the same, such as to one system message in front and to turns.
        if (form === undefined || tried.some((before) => isDeepStrictEqual(before, form))) continue;
        tried.push(form);
        const prompt = await this.#attempt(form).catch(unlessHopeless);
        if (prompt !== undefined) return prompt;
      }
      throw error;
    }
  }

  /** The conversation, exactly as given but for the form of its arguments; undefined when the template fails. */
  async probe(
    messages: readonly TemplateMessage[],
    tools: readonly unknown[] | undefined,
  ): Promise<string | undefined> {
    const shaped = shapeMessages(messages, await this.#abilities(messages));
    return (await this.#probe(shaped, tools ?? null)) || undefined;
  }

  get endTexts(): readonly string[] {
    if (this.#endTexts === undefined) {
      const { table, eosText } = this.#options;
      const tokens = Array.from({ length: table.size }, (_, token) => token);
      const ends = tokens.filter((token) => table.isEnd(token)).map((token) => table.piece(token));
      this.#endTexts = [...new Set([eosText, ...ends])].filter((text) => text !== "");
    }
    return this.#endTexts;
  }

  /** The conversation as the template should take it, then other forms for one that refuses. */
  async #forms(
    request: RenderRequest,
  ): Promise<readonly [RenderRequest, ...(() => RenderRequest | undefined)[]]> {
    const format = concernsTools(request) ? await detectToolFormat(this) : undefined;
    const { messages: given, tools } = format === undefined ? request : shapeTools(request, format);
    const messages = shapeMessages(given, await this.#abilities(given));
    const first = { ...request, messages, tools };
    // Some templates fail without a list of tools.
    const callForms = format === undefined ? [() => ({ messages, tools: [] })] : toolReshapes(first, format);
    const forms = [() => first, ...callForms].flatMap((callForm) => [
      (): RenderRequest | undefined => mapDefined(callForm(), (form) => ({ ...request, ...form })),
      ...RESHAPES.map((reshape) => (): RenderRequest | undefined => {
        const form = callForm();
        const reshaped = form && reshape(form.messages);
        return reshaped && { ...request, ...form, messages: reshaped };
      }),
    ]);
    return [first, ...forms.slice(1)];
  }

  async #attempt(request: RenderRequest): Promise<RenderedPrompt> {
    const { table } = this.#options;
    const { messages } = request;
    const names = Object.keys(request.kwargs);
    const given = { messages, tools: request.tools ?? null, values: Object.values(request.kwargs) };
    const { value, sentinel } = this.#guard(given);
    const kwargs = Object.fromEntries(names.map((name, index) => [name, value.values[index]]));
    const { renderer, source, bosText, eosText } = this.#options;
    const run = (shown: readonly TemplateMessage[], addGenerationPrompt: boolean): Promise<string> =>
      renderer.render({
        source,
        variables: {
          documents: null,
          ...kwargs,
          messages: shown,
          tools: value.tools,
          add_generation_prompt: addGenerationPrompt,
          bos_token: bosText,
          eos_token: eosText,
        },
      });
    let rendered: string;
    if (request.continueFinalMessage) {
      const { marked, mark } = this.#markEnd(value.messages, [...stringsOf(value), sentinel ?? ""]);
      rendered = beforeMark(await run(marked, false), mark);
    } else rendered = await run(value.messages, request.addGenerationPrompt);
    const text = withoutSentinel(rendered, sentinel);
    return {
      parts: toPromptParts(rendered, table, sentinel),
      text,
      reasoningOpened: this.#opensReasoning(text, request),
    };
  }

  #guard<T>(given: T): { readonly value: T; readonly sentinel: string | undefined } {
    try {
      return guardStrings(given, this.#options.table, [this.source]);
    } catch (error) {
      throw new TemplateError("template_rejected", error instanceof Error ? error.message : String(error));
    }
  }

  /** Marks where the final message ends, which is found in the rendered text whatever the template adds. */
  #markEnd(
    messages: readonly TemplateMessage[],
    taken: readonly string[],
  ): { readonly marked: readonly TemplateMessage[]; readonly mark: string } {
    const final = messages.at(-1);
    if (final?.role !== "assistant") {
      throw new TemplateError("template_rejected", "Only a final message of the assistant can be continued.");
    }
    const [mark] = unusedCharacters([...taken, this.source], 1);
    if (mark === undefined) {
      throw new TemplateError("template_rejected", "The text uses every private use character.");
    }
    return { marked: [...messages.slice(0, -1), withContentSuffix(final, mark)], mark };
  }

  #opensReasoning(text: string, request: RenderRequest): boolean {
    if (this.reasoning === undefined) return false;
    const { start, end } = this.reasoning;
    if (!request.continueFinalMessage) return text.trimEnd().endsWith(start);
    const content = textOf(request.messages.at(-1)?.content);
    if (content.includes(start) || content.includes(end)) {
      return content.lastIndexOf(start) > content.lastIndexOf(end);
    }
    return (
      text.endsWith(content) &&
      text
        .slice(0, text.length - content.length)
        .trimEnd()
        .endsWith(start)
    );
  }

  async #abilities(messages: readonly TemplateMessage[]): Promise<TemplateAbilities> {
    const hasParts = messages.some((message) => Array.isArray(message.content));
    const hasCalls = messages.some((message) => Array.isArray(message["tool_calls"]));
    if (hasParts) this.#contentParts ??= await this.#takesContentParts();
    if (hasCalls) {
      this.#callsInsteadOfContent ??= await this.#wantsCallsInsteadOfContent();
      this.#argumentObjects ??= await this.#takesArgumentObjects();
    }
    return {
      contentParts: hasParts && this.#contentParts === true,
      argumentObjects: hasCalls && this.#argumentObjects === true,
      callsInsteadOfContent: hasCalls && this.#callsInsteadOfContent === true,
      developerRole: this.#developerRole,
    };
  }

  /** Whether a list of parts gives what its text gives. */
  async #takesContentParts(): Promise<boolean> {
    const asText = await this.#probe([{ role: "user", content: PROBE }]);
    const asParts = await this.#probe([{ role: "user", content: [{ type: "text", text: PROBE }] }]);
    return asText.includes(PROBE) && asText === asParts;
  }

  /** Whether an object is written, as JSON or entry by entry, and does not become `[object Object]`, nothing or an error. */
  async #takesArgumentObjects(): Promise<boolean> {
    const content = this.#callsInsteadOfContent === true ? null : "";
    const rendered = await this.#probeCall({ [PROBE_KEY]: PROBE }, content);
    return rendered.includes(PROBE_KEY) && rendered.includes(PROBE);
  }

  async #wantsCallsInsteadOfContent(): Promise<boolean> {
    for (const given of [{ [PROBE_KEY]: PROBE }, JSON.stringify({ [PROBE_KEY]: PROBE })]) {
      if ((await this.#probeCall(given, "")).includes(PROBE_NAME)) return false;
      if ((await this.#probeCall(given, null)).includes(PROBE_NAME)) return true;
    }
    return false;
  }

  /** What an assistant's message with one call becomes, behind the user's question. */
  async #probeCall(given: unknown, content: unknown): Promise<string> {
    // Some templates take ids of nine letters and digits only.
    const call = { id: "weftprobe", type: "function", function: { name: PROBE_NAME, arguments: given } };
    const messages = [
      { role: "user", content: "?" },
      { role: "assistant", content, tool_calls: [call] },
    ];
    // Some write calls only where there are tools.
    const text = await this.#probe(messages);
    return text.includes(PROBE_NAME) ? text : this.#probe(messages, PROBE_TOOLS);
  }

  /**
   * The rendered text; "" when the template fails.
   * @throws {TemplateError} `template_busy`, which says nothing about the template.
   */
  async #probe(
    messages: readonly TemplateMessage[],
    tools: readonly unknown[] | null = null,
  ): Promise<string> {
    const { renderer, source, bosText, eosText } = this.#options;
    const fixed = { tools, documents: null, add_generation_prompt: false };
    const variables = { ...fixed, messages, bos_token: bosText, eos_token: eosText };
    try {
      return await renderer.render({ source, variables });
    } catch (error) {
      if (error instanceof TemplateError && error.code === "template_busy") throw error;
      return "";
    }
  }
}

type Reshape = (messages: readonly TemplateMessage[]) => TemplateMessage[] | undefined;

const RESHAPES: readonly Reshape[] = [
  withOneSystemMessage,
  inTurns,
  (messages) => mapDefined(withOneSystemMessage(messages), inTurns),
  withoutSystemMessages,
  (messages) => mapDefined(withoutSystemMessages(messages), inTurns),
];

function mapDefined<T, R>(value: T | undefined, change: (value: T) => R | undefined): R | undefined {
  return value === undefined ? undefined : change(value);
}

function beforeMark(rendered: string, mark: string): string {
  const end = rendered.lastIndexOf(mark);
  if (end === -1) {
    throw new TemplateError("template_rejected", "The model's chat template leaves out the final message.");
  }
  return rendered.slice(0, end);
}

/** Whether the same in other messages may please the template. */
function mayBeCured(error: unknown): boolean {
  return (
    error instanceof TemplateError && (error.code === "template_rejected" || error.code === "template_failed")
  );
}

function unlessHopeless(error: unknown): undefined {
  if (!mayBeCured(error)) throw error;
}
