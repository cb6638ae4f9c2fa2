/** `POST /v1/completions`. */
import type { PromptPart } from "../../engine/protocol.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import type { AppDeps } from "../deps.ts";
import { generateChoices } from "../choices.ts";
import type { GenerateRequest } from "../generate.ts";
import { readJsonObject } from "../http/body.ts";
import { contextExceeded } from "../openai/api-error.ts";
import { readCompletionRequest } from "../openai/completion-request.ts";
import type { CompletionPrompt } from "../openai/completion-request.ts";
import { completionBody, completionEventWriter } from "../openai/completion-response.ts";
import type { CompletionAnswer } from "../openai/completion-response.ts";
import { checkToken } from "../openai/generation-fields.ts";
import { characterStarts } from "../openai/logprobs.ts";
import { sendAnswer } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { assertOpen, findModel } from "./find-model.ts";

export async function completions(c: AppContext, deps: AppDeps): Promise<Response> {
  c.get("notes").endpoint = "completions";
  const request = readCompletionRequest(await readJsonObject(c.req.raw), deps.config);
  assertOpen(deps);
  const model = findModel(deps, request.model);
  c.get("notes").model = model.id;
  const id = deps.ids.next("cmpl-");
  const prompt: GenerateRequest = {
    id,
    prompt: [promptPart(request.prompt, model)],
    addBos: request.addBos,
    promptField: "prompt",
    settings: request.generation,
    reasoning: undefined,
    calls: undefined,
    owner: c.get("owner"),
  };
  const asked = { prompts: [prompt], perPrompt: request.choices };
  const choices = await generateChoices(model, asked, deps, c.get("scope").signal);
  const answer: CompletionAnswer = {
    head: { id, created: deps.clock.epochSeconds(), model: model.id, fingerprint: model.facts.fingerprint },
    delivery: request.delivery,
    logprobs: request.generation.topLogprobs !== undefined,
    table: model.tokens,
    promptTokens: choices.promptTokens[0] ?? [],
    promptCharacters: promptCharacters(request.prompt, model),
  };
  return sendAnswer(c, deps, choices, {
    stream: request.delivery.stream,
    ignoredFields: request.ignoredFields,
    write: completionEventWriter(answer),
    body: (finished) => completionBody(finished, answer),
  });
}

/** A raw prompt is the client's own template: its control tokens are meant. */
function promptPart(prompt: CompletionPrompt, model: LoadedModel): PromptPart {
  if (prompt.kind === "text") return { text: prompt.text, special: true };
  const { contextTokens, vocabSize } = model.facts;
  // Counting is enough; the engine's exact bound is one token below.
  if (prompt.tokens.length > contextTokens)
    throw contextExceeded("prompt", contextTokens, prompt.tokens.length);
  for (const [i, token] of prompt.tokens.entries()) checkToken(token, vocabSize, `prompt[${i}]`);
  return { tokens: prompt.tokens };
}

function promptCharacters(prompt: CompletionPrompt, model: LoadedModel): number {
  if (prompt.kind === "text") return characterStarts(Buffer.from(prompt.text));
  return prompt.tokens.reduce((sum, token) => sum + characterStarts(model.tokens.bytes(token)), 0);
}
