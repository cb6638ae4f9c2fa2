/** `POST /tokenize`, `/detokenize`, `/apply-template`, `GET /tokenizer_info` and the count of a chat's tokens, in the dialects of llama.cpp and vLLM at once. */
import { z } from "zod";
import { EngineError } from "../../engine/errors.ts";
import type { PromptPart, TokenId } from "../../engine/protocol.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import type { Limits } from "../config/limits.ts";
import { prepareChatTurn } from "../chat-turn.ts";
import type { AppDeps } from "../deps.ts";
import { readJsonObject } from "../http/body.ts";
import { jsonReply } from "../http/reply.ts";
import { ApiError, fromEngineError } from "../openai/api-error.ts";
import { readChatRequest } from "../openai/chat-request.ts";
import { checkToken } from "../openai/generation-fields.ts";
import type { RequestLimits } from "../openai/generation-fields.ts";
import { keptTokens } from "../openai/prompt-cut.ts";
import { checkLength, missing, parseWith, withoutNulls, wrongType } from "../openai/validation.ts";
import { reportedFields, unreadFields } from "../openai/unsupported.ts";
import { ignoredHeader } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { findModel } from "./find-model.ts";
import { renderChat } from "./render-chat.ts";

type Body = Readonly<Record<string, unknown>>;

export const tokenizeSchema = z.object({
  model: z.string().optional(),
  content: z.string().optional(),
  prompt: z.string().optional(),
  add_special: z.boolean().optional(),
  add_special_tokens: z.boolean().optional(),
  parse_special: z.boolean().optional(),
  with_pieces: z.boolean().optional(),
  return_token_strs: z.boolean().optional(),
});

export const detokenizeSchema = z.object({
  model: z.string().optional(),
  // Judged by hand: it may be an array of very many numbers.
  tokens: z.unknown().meta({ type: "array", items: { type: "integer" } }),
});

const TOKENIZE_FIELDS: ReadonlySet<string> = new Set(Object.keys(tokenizeSchema.shape));
const DETOKENIZE_FIELDS: ReadonlySet<string> = new Set(Object.keys(detokenizeSchema.shape));

/** Of a chat request only the prompt matters here. */
function promptOnly({ config }: AppDeps): RequestLimits {
  const limits = { ...config.limits, "max-choices": Number.POSITIVE_INFINITY };
  const { strictParams, requestDefaults = {} } = config;
  return { strictParams, limits, requestDefaults };
}

export async function tokenize(c: AppContext, deps: AppDeps): Promise<Response> {
  const body = withoutNulls(await readJsonObject(c.req.raw, deps.config.limits));
  const fields = parseWith(tokenizeSchema, body);
  const model = modelFor(deps, fields.model);
  const { parts, addBos, ignored } = await tokenizeInput(model, body, fields, promptOnly(deps));
  const tokens = await countedTokens(model, parts, addBos, deps.config.limits);
  const pieces =
    fields.with_pieces === true ? tokens.map((id) => ({ id, piece: piece(id, model) })) : undefined;
  const strings = fields.return_token_strs === true ? tokens.map((id) => model.tokens.piece(id)) : undefined;
  const answer = {
    tokens: pieces ?? tokens,
    count: tokens.length,
    max_model_len: model.facts.contextTokens,
    ...(strings === undefined ? {} : { token_strs: strings }),
  };
  return jsonReply(answer, 200, ignoredHeader(ignored));
}

export async function detokenize(c: AppContext, deps: AppDeps): Promise<Response> {
  const body = withoutNulls(await readJsonObject(c.req.raw, deps.config.limits));
  const model = modelFor(deps, parseWith(detokenizeSchema, body).model);
  const ignored = unreadFields(body, DETOKENIZE_FIELDS, deps.config.strictParams);
  const tokens = body["tokens"];
  if (tokens === undefined) throw missing("tokens");
  if (!Array.isArray(tokens)) throw wrongType("tokens", "an array of integers", tokens);
  checkLength(tokens, deps.config.limits["max-detokenize-tokens"], "tokens", "max-detokenize-tokens");
  const bytes = (tokens as unknown[]).map((token, i) => {
    checkToken(token, model.facts.vocabSize, `tokens[${i}]`);
    return model.tokens.bytes(token);
  });
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.concat(bytes));
  return jsonReply({ content: text, prompt: text }, 200, ignoredHeader(ignored));
}

/** What vLLM tells of a tokenizer, for clients that tokenize and render with it from afar. */
export function tokenizerInfo(c: AppContext, deps: AppDeps): Response {
  const model = modelFor(deps, c.req.query("model"));
  const { facts, template } = model;
  const text = (token: TokenId | undefined) => (token === undefined ? null : model.tokens.piece(token));
  return jsonReply({
    tokenizer_class: "llama.cpp",
    model: model.id,
    bos_token: text(facts.bosToken),
    eos_token: text(facts.eosToken),
    add_bos_token: facts.addBos,
    vocab_size: facts.vocabSize,
    model_max_length: facts.contextTokens,
    chat_template: template?.source ?? null,
  });
}

export async function applyTemplate(c: AppContext, deps: AppDeps): Promise<Response> {
  const request = readChatRequest(await readJsonObject(c.req.raw, deps.config.limits), promptOnly(deps));
  const rendered = await renderChat(modelFor(deps, request.model), request.turn.render);
  return jsonReply({ prompt: rendered.text }, 200, ignoredHeader(request.ignoredFields));
}

/** What the prompt of a chat would cost, without asking for an answer. */
export async function countChatTokens(c: AppContext, deps: AppDeps): Promise<Response> {
  const request = readChatRequest(await readJsonObject(c.req.raw, deps.config.limits), deps.config);
  const model = modelFor(deps, request.model);
  const { prompt, relaxed } = await prepareChatTurn(model, request.turn);
  const tokens = await countedTokens(model, prompt.parts, true, deps.config.limits);
  const most = keptTokens(request.turn.generation.truncatePrompt, model.facts.contextTokens);
  const ignored = ignoredHeader(reportedFields(request.ignoredFields, relaxed));
  return jsonReply({ input_tokens: Math.min(tokens.length, most) }, 200, ignored);
}

/** llama.cpp's clients name no model here. */
function modelFor(deps: AppDeps, name: string | undefined): LoadedModel {
  return findModel(deps, name ?? deps.models.served[0]?.id);
}

interface TokenizeInput {
  readonly parts: readonly PromptPart[];
  readonly addBos: boolean;
  /** Fields without effect. */
  readonly ignored: readonly string[];
}

async function tokenizeInput(
  model: LoadedModel,
  body: Body,
  fields: z.infer<typeof tokenizeSchema>,
  limits: RequestLimits,
): Promise<TokenizeInput> {
  const text = fields.content ?? fields.prompt;
  const asked = fields.add_special ?? fields.add_special_tokens;
  if (text !== undefined) {
    // Each dialect has its own default: llama.cpp's `content` is bare text, vLLM's `prompt` is a whole prompt.
    const addBos = asked ?? fields.content === undefined;
    const ignored = unreadFields(body, TOKENIZE_FIELDS, limits.strictParams);
    return { parts: [{ text, special: fields.parse_special ?? true }], addBos, ignored };
  }
  if (body["messages"] === undefined) throw missing("content");
  const ofChat = Object.entries(body).filter(([field]) => !TOKENIZE_FIELDS.has(field));
  const { turn, ignoredFields } = readChatRequest(Object.fromEntries(ofChat), limits);
  const { parts } = await renderChat(model, turn.render);
  return { parts, addBos: asked ?? true, ignored: ignoredFields };
}

/** @throws {ApiError} 400 for more text than is worth tokenizing at once, or 503. */
export async function countedTokens(
  model: LoadedModel,
  parts: readonly PromptPart[],
  addBos: boolean,
  limits: Limits,
): Promise<readonly TokenId[]> {
  const most = limits["max-tokenize-bytes"];
  const bytes = parts.reduce((sum, part) => sum + ("text" in part ? Buffer.byteLength(part.text) : 0), 0);
  if (bytes > most) {
    throw new ApiError(
      "string_above_max_length",
      `The text has ${bytes} bytes; at most ${most} can be tokenized in one request (--max-tokenize-bytes).`,
      "content",
    );
  }
  try {
    return await model.engine.tokenize(parts, addBos);
  } catch (error) {
    throw error instanceof EngineError ? fromEngineError(error, "prompt") : error;
  }
}

/** llama.cpp writes a piece that is no whole character as its bytes. */
function piece(token: TokenId, model: LoadedModel): string | number[] {
  const bytes = model.tokens.bytes(token);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return [...bytes];
  }
}
