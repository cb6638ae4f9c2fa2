/** `POST /completion` and `POST /infill`, in llama.cpp's own dialect. */
import type { PromptPart } from "../../engine/protocol.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { holdText } from "../constrain.ts";
import { generateChoices } from "../choices.ts";
import type { AppDeps } from "../deps.ts";
import { readJsonObject } from "../http/body.ts";
import { infillParts } from "../llama-cpp/infill-prompt.ts";
import { readInfillRequest, readNativeRequest } from "../llama-cpp/native-request.ts";
import type { NativeRequest } from "../llama-cpp/native-request.ts";
import { nativeBody, nativeEventWriter } from "../llama-cpp/native-response.ts";
import type { NativeAnswer } from "../llama-cpp/native-response.ts";
import { withTextBiases } from "../llama-cpp/native-bias.ts";
import { nativePromptParts } from "../llama-cpp/native-prompt.ts";
import { reportedFields } from "../openai/unsupported.ts";
import { readScheduling, vainPriority } from "../scheduling.ts";
import { sendAnswer } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { assertOpen, findGenerator } from "./find-model.ts";

interface NativePrompt {
  readonly parts: readonly PromptPart[];
  readonly addBos: boolean;
}

export async function nativeCompletion(c: AppContext, deps: AppDeps): Promise<Response> {
  c.get("notes").endpoint = "completions";
  const request = readNativeRequest(await readJsonObject(c.req.raw, deps.config.limits), deps.config);
  const { addSpecialTokens, generation } = request.completion;
  return answer(c, deps, request, (model) =>
    request.prompts.map((prompt) => ({
      parts: nativePromptParts(prompt, model, generation.truncatePrompt),
      addBos: addSpecialTokens ?? prompt[0]?.kind === "text",
    })),
  );
}

export async function infill(c: AppContext, deps: AppDeps): Promise<Response> {
  c.get("notes").endpoint = "completions";
  const request = readInfillRequest(await readJsonObject(c.req.raw, deps.config.limits), deps.config);
  return answer(c, deps, request, (model) => [{ parts: infillParts(request, model), addBos: true }]);
}

async function answer(
  c: AppContext,
  deps: AppDeps,
  request: NativeRequest,
  promptsFor: (model: LoadedModel) => readonly NativePrompt[],
): Promise<Response> {
  const { completion } = request;
  const scheduling = readScheduling(c, deps);
  assertOpen(deps);
  // llama.cpp's clients name no model.
  const model = findGenerator(
    deps,
    completion.model ?? deps.models.served[0]?.id,
    completion.generation.lora,
  );
  c.get("notes").model = model.id;
  const { limits } = deps.config;
  const generation = await withTextBiases(completion.generation, request.textBiases, model, limits);
  const held = await holdText(completion.format, generation);
  const id = deps.ids.next("cmpl-");
  const prompts = promptsFor(model).map(({ parts, addBos }) => ({
    id,
    prompt: parts,
    addBos,
    promptField: "prompt" as const,
    settings: generation,
    reasoning: undefined,
    thinking: undefined,
    calls: undefined,
    constraint: held?.constraint,
    verify: held?.verify,
    owner: c.get("owner"),
    scheduling,
    reportsPrefill: completion.delivery.promptProgress,
  }));
  const choices = await generateChoices(
    model,
    { prompts, perPrompt: completion.choices, askedBy: completion.choices > 1 ? "n_cmpl" : "prompt" },
    deps,
    c.get("scope").signal,
  );
  c.get("notes").allowance = choices.allowance;
  const vain = vainPriority(scheduling, generation.priority);
  const native: NativeAnswer = { model, request, generation, promptTokens: choices.promptTokens };
  return sendAnswer(c, deps, choices, {
    stream: completion.delivery.stream,
    ignoredFields: reportedFields([...vain, ...completion.ignoredFields], held?.relaxed ?? []),
    write: nativeEventWriter(native),
    body: (finished) => nativeBody(finished, native),
  });
}
