/** A chat history to the prompt of a model, with the template's failures in the client's words. */
import { TemplateError } from "../../models/chat-template.ts";
import type { ChatTemplate, RenderedPrompt, RenderRequest } from "../../models/chat-template.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { mayThink } from "../../models/thinking-mode.ts";
import { detectToolFormat } from "../../models/tools/detect.ts";
import type { ToolFormat } from "../../models/tools/tool-format.ts";
import { ApiError } from "../openai/api-error.ts";
import { textLength } from "../openai/messages.ts";
import { assertWorthReading } from "../openai/prompt-cut.ts";
import type { PromptCut } from "../openai/prompt-cut.ts";

/** @throws {ApiError} 400, 500 or 503. */
export async function renderChat(
  model: LoadedModel,
  request: RenderRequest,
  cut?: PromptCut,
): Promise<RenderedPrompt> {
  const template = templateOf(model);
  assertWorthReading(textLength(request.messages), model.facts.contextTokens, { field: "messages", cut });
  return inClientsWords(() => template.render(request));
}

/** @throws {ApiError} 400 for a model without a template; 503. */
export async function toolFormatOf(model: LoadedModel): Promise<ToolFormat> {
  return inClientsWords(() => detectToolFormat(templateOf(model)));
}

/**
 * Whether the output may begin with thinking that the prompt has not opened.
 * @throws {ApiError} 400 for a model without a template; 503.
 */
export async function mayOpenThinking(model: LoadedModel, { kwargs }: RenderRequest): Promise<boolean> {
  return inClientsWords(() => mayThink(templateOf(model), kwargs));
}

async function inClientsWords<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    throw error instanceof TemplateError ? fromTemplateError(error) : error;
  }
}

/** @throws {ApiError} 400 */
function templateOf(model: LoadedModel): ChatTemplate {
  if (model.template !== undefined) return model.template;
  throw new ApiError(
    "unsupported_value",
    `The model '${model.id}' has no chat template. Please use /v1/completions with it.`,
    "model",
  );
}

function fromTemplateError(error: TemplateError): ApiError {
  switch (error.code) {
    case "template_rejected":
      // The template's own words are what tells a client which message it does not like.
      return new ApiError(
        "invalid_messages",
        `The chat template refused the messages: ${error.message}`,
        "messages",
      );
    case "template_timeout":
      return new ApiError(
        "template_limit",
        "The chat template took too long on these messages (--max-template-ms).",
        "messages",
      );
    case "template_too_large":
      return new ApiError(
        "template_limit",
        "The chat template made too long a prompt of these messages.",
        "messages",
      );
    case "template_busy":
      return new ApiError(
        "server_overloaded",
        "Too many prompts are being prepared. Please try again later.",
      );
    case "template_failed":
      return new ApiError(
        "template_error",
        "The model's chat template is broken. The server's log says why.",
      );
  }
}
