/** One turn of a chat, whatever endpoint asked for it: from messages and tools to a running generation. */
import type { RenderedPrompt, RenderRequest } from "../models/chat-template.ts";
import { EngineError } from "../engine/errors.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import type { ReasoningMarkers } from "../models/text/reasoning-splitter.ts";
import { generate } from "./generate.ts";
import type { GenerateDeps, GenerateRequest, Generation, ThinkingLimit } from "./generate.ts";
import { fromEngineError } from "./openai/api-error.ts";
import type { GenerationSettings } from "./openai/generation-fields.ts";
import { renderChat } from "./routes/render-chat.ts";

/** A function that the model may call. */
export interface ToolDefinition {
  readonly name: string;
  readonly description?: string;
  /** JSON schema of the arguments; undefined for a function without any. */
  readonly parameters: Readonly<Record<string, unknown>> | undefined;
  /** Whether a schema that cannot be held in full is an error. */
  readonly strict: boolean;
}

export interface TurnTool extends ToolDefinition {
  /** Path of the parameters in the request, for errors. */
  readonly param: string;
  /** The client knows it as a tool that takes text: the argument `input` is that text. */
  readonly custom: boolean;
}

export type ToolChoice =
  | { readonly mode: "none" }
  /** `allowed` narrows what may be called, not what the model is shown; undefined is all. */
  | { readonly mode: "auto" | "required"; readonly allowed: readonly string[] | undefined }
  /** Exactly one call, of this tool. */
  | { readonly mode: "named"; readonly name: string };

/** What the answer must look like. `param` is the request field that says so, for errors. */
export type OutputFormat =
  | { readonly kind: "text" }
  | { readonly kind: "json_object"; readonly param: string }
  | {
      readonly kind: "json_schema";
      readonly name: string;
      readonly schema: unknown;
      /** Whether a keyword that cannot be held is an error. */
      readonly strict: boolean;
      /** Path of the schema in the request. */
      readonly at: string;
      readonly param: string;
    }
  | { readonly kind: "regex"; readonly pattern: string; readonly param: string }
  | { readonly kind: "choice"; readonly choices: readonly string[]; readonly param: string }
  /** GBNF. */
  | { readonly kind: "grammar"; readonly text: string; readonly param: string };

export interface ChatTurn {
  /** `tools` is filled in from the turn's own. */
  readonly render: RenderRequest;
  readonly tools: readonly TurnTool[];
  readonly toolChoice: ToolChoice;
  readonly parallelToolCalls: boolean;
  readonly format: OutputFormat;
  /** Whether the model's thinking is told apart from its answer. */
  readonly splitReasoning: boolean;
  /** Most tokens of thinking, after which it is ended; undefined is no limit. */
  readonly thinkingBudget?: number | undefined;
  readonly generation: GenerationSettings;
}

/** Who asks for one answer to a turn. */
export interface TurnIds {
  /** Unique among the requests the engine knows. */
  readonly id: string;
  readonly owner: string;
  /** A new id for each tool call. */
  readonly nextCallId: () => string;
}

export interface TurnRun extends TurnIds {
  readonly signal: AbortSignal;
}

/** A turn whose prompt is made: any number of answers may be generated from it. */
export interface PreparedTurn {
  readonly prompt: RenderedPrompt;
  /** What to generate; a fresh value for each answer, because it holds a parser. */
  request(ids: TurnIds): GenerateRequest;
}

/** @throws {ApiError} 400, 500 or 503. */
export async function prepareChatTurn(model: LoadedModel, turn: ChatTurn): Promise<PreparedTurn> {
  const prompt = await renderChat(model, { ...turn.render, tools: templateTools(turn) });
  const markers = turn.splitReasoning ? model.template?.reasoning : undefined;
  const thinking = markers && (await thinkingLimit(model, turn, markers));
  return {
    prompt,
    request: ({ id, owner }) => ({
      id,
      prompt: prompt.parts,
      addBos: true,
      promptField: "messages",
      settings: turn.generation,
      reasoning: markers && { ...markers, opened: prompt.reasoningOpened },
      thinking,
      calls: undefined,
      owner,
    }),
  };
}

/**
 * Resolves when the engine has accepted the request.
 *
 * @throws {ApiError} 4xx for what the turn asks for, 5xx for what the server cannot do; `client_closed` when the
 * signal aborts first.
 */
export async function startChatTurn(
  deps: GenerateDeps,
  model: LoadedModel,
  turn: ChatTurn,
  run: TurnRun,
): Promise<Generation> {
  const prepared = await prepareChatTurn(model, turn);
  return generate(model, prepared.request(run), deps, run.signal);
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
