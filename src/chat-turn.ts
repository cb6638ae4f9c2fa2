/** One turn of a chat, whatever endpoint asked for it: from messages and tools to what is to be generated. */
import { EngineError } from "../engine/errors.ts";
import type { RenderedPrompt, RenderRequest } from "../models/chat-template.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import type {
  CallConstraint,
  ConstrainedTool,
  OutputConstraint,
  OutputFormat,
} from "../models/output-constraint.ts";
import type { ReasoningMarkers } from "../models/text/reasoning-splitter.ts";
import { keptControls } from "../models/tools/kept-controls.ts";
import type { HeldCalls, ToolFormat } from "../models/tools/tool-format.ts";
import { compileOutput, endlessConflict, endlessField } from "./constrain.ts";
import type { GenerateRequest, ThinkingLimit } from "./generate-request.ts";
import { fromEngineError } from "./openai/api-error.ts";
import type { GenerationSettings } from "./openai/generation-fields.ts";
import type { Scheduling } from "./scheduling.ts";
import { verifierOf } from "./verify-output.ts";
import { mayOpenThinking, renderChat, toolFormatOf } from "./routes/render-chat.ts";

export type { OutputFormat } from "../models/output-constraint.ts";

/** A function that the model may call; `param` is the path of its parameters in the request. */
export interface TurnTool extends ConstrainedTool {
  /** The client knows it as a tool that takes text: the argument `input` is that text. */
  readonly custom: boolean;
}

export type ToolChoice =
  | { readonly mode: "none" }
  /** `allowed` narrows what may be called, not what the model is shown; undefined is all. */
  | { readonly mode: "auto" | "required"; readonly allowed: readonly string[] | undefined }
  /** Exactly one call, of this tool. */
  | { readonly mode: "named"; readonly name: string };

export interface ChatTurn {
  /** Its `tools` are filled in from the turn's own. */
  readonly render: RenderRequest;
  readonly tools: readonly TurnTool[];
  readonly toolChoice: ToolChoice;
  readonly parallelToolCalls: boolean;
  readonly format: OutputFormat;
  /** Whether the model's thinking is told apart from its answer. */
  readonly splitReasoning: boolean;
  /** Most tokens of thinking, after which it is ended; undefined is no limit. */
  readonly thinkingBudget?: number | undefined;
  /** What the client expects as the answer. */
  readonly predicted?: string | undefined;
  readonly generation: GenerationSettings;
}

/** Who asks for one answer to a turn. */
export interface TurnIds {
  /** Unique among the requests the engine knows. */
  readonly id: string;
  readonly owner: string;
  readonly scheduling?: Scheduling | undefined;
  /** A new id for each tool call. */
  readonly nextCallId: () => string;
}

/** A turn whose prompt and grammar are made: any number of answers may be generated from it. */
export interface PreparedTurn {
  readonly prompt: RenderedPrompt;
  /** Paths of schema keywords that the answer is not held to. */
  readonly relaxed: readonly string[];
  request(ids: TurnIds): GenerateRequest;
}

type OpenedReasoning = NonNullable<OutputConstraint["reasoning"]>;

/** @throws {ApiError} 400, 500 or 503. */
export async function prepareChatTurn(model: LoadedModel, turn: ChatTurn): Promise<PreparedTurn> {
  const render = { ...turn.render, tools: templateTools(turn) };
  const prompt = await renderChat(model, render, turn.generation.truncatePrompt);
  const syntax = await toolFormatOf(model);
  const format = turn.tools.length === 0 ? undefined : syntax;
  const markers = model.template?.reasoning;
  const reasoning = markers && { ...markers, opened: prompt.reasoningOpened };
  const constraint = constraintOf(
    turn,
    format,
    reasoning && (await expectedThinking(model, turn, reasoning)),
    // An answer that the prompt has begun has its header there.
    turn.render.continueFinalMessage && !prompt.reasoningOpened ? undefined : syntax.answerHeader,
  );
  const compiled = constraint && (await compileOutput(constraint));
  const verify = verifierOf(turn, compiled?.relaxed ?? []);
  const split = turn.splitReasoning ? reasoning : undefined;
  const thinking = split && (await thinkingLimit(model, turn, split));
  const held = constraint && heldCalls(constraint, split !== undefined);
  const parses =
    syntax.answerHeader !== undefined || (format !== undefined && turn.toolChoice.mode !== "none");
  return {
    prompt,
    relaxed: compiled?.relaxed ?? [],
    request: ({ id, owner, scheduling, nextCallId }) => ({
      id,
      prompt: prompt.parts,
      addBos: true,
      promptField: "messages",
      settings: turn.generation,
      predicted: turn.predicted,
      reasoning: split,
      thinking,
      calls: parses
        ? () => ({
            parser: syntax.createParser(turn.tools, held),
            markers: keptControls(syntax, model.tokens),
            nextId: nextCallId,
          })
        : undefined,
      constraint: compiled && { grammar: compiled.grammar, param: constraintParam(turn) },
      verify,
      owner,
      scheduling,
    }),
  };
}

/** @throws {ApiError} 503 when the engine is gone. */
async function thinkingLimit(
  model: LoadedModel,
  { thinkingBudget: tokens }: ChatTurn,
  { end }: ReasoningMarkers,
): Promise<ThinkingLimit | undefined> {
  if (tokens === undefined) return undefined;
  try {
    // With the white space that models are trained to write around the marker.
    const closing = await model.engine.tokenize([{ text: `\n${end}\n\n`, special: true }], false);
    return { tokens, closing };
  } catch (error) {
    throw error instanceof EngineError ? fromEngineError(error, "messages") : error;
  }
}

/** The tools as templates know them; those that may not be called are not shown. */
function templateTools({ tools, toolChoice }: ChatTurn): object[] | undefined {
  if (tools.length === 0 || toolChoice.mode === "none") return undefined;
  return tools.map(({ name, description, parameters }) => ({
    type: "function",
    function: {
      name,
      description: description ?? "",
      parameters: parameters ?? { type: "object", properties: {} },
    },
  }));
}

/**
 * The thinking that may stand before what is constrained; undefined for none. A model that is not expected to think
 * must not begin to, or it would never come to what it is held to.
 * @throws {ApiError} 503
 */
async function expectedThinking(
  model: LoadedModel,
  turn: ChatTurn,
  reasoning: OpenedReasoning,
): Promise<OpenedReasoning | undefined> {
  if (reasoning.opened) return reasoning;
  // Thinking that is not told apart would be part of the answer.
  return turn.splitReasoning && (await mayOpenThinking(model, turn.render)) ? reasoning : undefined;
}

/**
 * What the output has to follow; undefined when anything will do.
 * @throws {ApiError} 400 for fields that cannot be honoured together with it.
 */
function constraintOf(
  turn: ChatTurn,
  format: ToolFormat | undefined,
  reasoning: OpenedReasoning | undefined,
  answerHeader: OutputConstraint["answerHeader"],
): OutputConstraint | undefined {
  const calls = format && callConstraint(turn, format);
  if (calls === undefined && turn.format.kind === "text") return undefined;
  const endless = endlessField(turn.generation);
  if (endless !== undefined) {
    if (!mustHold(turn)) return undefined;
    throw endlessConflict(endless, constraintParam(turn));
  }
  return { reasoning, calls, answer: turn.format, answerHeader };
}

function callConstraint(turn: ChatTurn, format: ToolFormat): CallConstraint {
  const { tools, toolChoice, parallelToolCalls: parallel } = turn;
  const names = tools.map(({ name }) => name);
  switch (toolChoice.mode) {
    case "none":
      return { format, names, mode: "none", callable: [], parallel };
    case "named": {
      const callable = tools.filter(({ name }) => name === toolChoice.name);
      return { format, names, mode: "required", callable, parallel: false };
    }
    case "auto":
    case "required": {
      const { allowed } = toolChoice;
      const callable = tools.filter(({ name }) => allowed === undefined || allowed.includes(name));
      return { format, names, mode: callable.length === 0 ? "none" : toolChoice.mode, callable, parallel };
    }
  }
}

/** What a JSON value, or white space before it, begins with. */
const JSON_START = /^[\s[{"\-\dtfn]/;

/** What the grammar says of calls; undefined where other text may look like the beginning of one. */
function heldCalls({ calls, answer, reasoning }: OutputConstraint, splits: boolean): HeldCalls | undefined {
  if (calls === undefined || calls.mode === "none" || (reasoning !== undefined && !splits)) return undefined;
  const names = calls.callable.map(({ name }) => name);
  if (calls.mode === "required") return { names, triggers: undefined };
  const triggers = calls.format.triggersFor(calls.names);
  if (answer.kind === "text") return { names, triggers };
  const isJson = answer.kind === "json_object" || answer.kind === "json_schema";
  return isJson && !triggers.some((trigger) => JSON_START.test(trigger))
    ? { names, triggers, atStart: true }
    : undefined;
}

/** Whether the client asked for something that only a grammar can promise. */
function mustHold({ format, toolChoice, tools, parallelToolCalls }: ChatTurn): boolean {
  if (format.kind !== "text") return true;
  if (toolChoice.mode === "none") return false;
  if (toolChoice.mode !== "auto" || toolChoice.allowed !== undefined) return true;
  return !parallelToolCalls || tools.some(({ strict }) => strict);
}

/** The field that asks for the constraint. */
function constraintParam({ format, toolChoice }: ChatTurn): string {
  if (format.kind !== "text") return format.param;
  return toolChoice.mode === "auto" ? "tools" : "tool_choice";
}
