/** A chat history to the prompt of a model, with the template's failures in the client's words. */
import { TemplateError } from "../../models/chat-template.ts";
import type { RenderedPrompt, RenderRequest } from "../../models/chat-template.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { MAX_BYTES_PER_CONTEXT_TOKEN, TEXT_SLACK_BYTES } from "../http/limits.ts";
import { ApiError, contextExceeded } from "../openai/api-error.ts";
import { textLength } from "../openai/messages.ts";

/** @throws {ApiError} 400, 500 or 503. */
export async function renderChat(model: LoadedModel, request: RenderRequest): Promise<RenderedPrompt> {
  if (model.template === undefined) {
    throw new ApiError(
      "unsupported_value",
      `The model '${model.id}' has no chat template. Please use /v1/completions with it.`,
      "model",
    );
  }
  const { contextTokens } = model.facts;
  if (textLength(request.messages) > contextTokens * MAX_BYTES_PER_CONTEXT_TOKEN + TEXT_SLACK_BYTES) {
    throw contextExceeded("messages", contextTokens, undefined);
  }
  try {
    return await model.template.render(request);
  } catch (error) {
    throw error instanceof TemplateError ? fromTemplateError(error) : error;
  }
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
      return new ApiError("template_limit", "The chat template took too long on these messages.", "messages");
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
