/** `POST /v1/completions`. */
import { fingerprintOf } from "../../models/adapted-model.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { holdText } from "../constrain.ts";
import type { HeldText } from "../constrain.ts";
import { generateChoices } from "../choices.ts";
import type { AppDeps } from "../deps.ts";
import type { GenerateRequest } from "../generate-request.ts";
import { bestOf } from "../openai/best-of.ts";
import { echoedText, fillInParts, promptParts } from "../openai/completion-prompt.ts";
import { readCompletionRequest } from "../openai/completion-request.ts";
import type { CompletionRequest } from "../openai/completion-request.ts";
import { completionBody, completionEventWriter } from "../openai/completion-response.ts";
import type { CompletionAnswer } from "../openai/completion-response.ts";
import { reportedFields } from "../openai/unsupported.ts";
import { readScheduling, vainPriority } from "../scheduling.ts";
import { sendAnswer } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { assertOpen, findGenerator } from "./find-model.ts";
import { readRequestBody } from "./request-body.ts";

export async function completions(c: AppContext, deps: AppDeps): Promise<Response> {
  c.get("notes").endpoint = "completions";
  const request = readCompletionRequest(await readRequestBody(c, deps), deps.config);
  const scheduling = readScheduling(c, deps);
  assertOpen(deps);
  const model = findGenerator(deps, request.model, request.generation.lora);
  c.get("notes").model = model.id;
  const id = deps.ids.next("cmpl-");
  const held = await holdText(request.format, request.generation);
  const prompts = generateRequests(request, model, held, { id, owner: c.get("owner"), scheduling });
  const several = request.choices > 1 ? "n" : "prompt";
  const askedBy = request.bestOf > request.choices ? "best_of" : several;
  const asked = { prompts, perPrompt: request.bestOf, askedBy };
  const choices = await generateChoices(model, asked, deps, c.get("scope").signal);
  c.get("notes").allowance = choices.allowance;
  const answer: CompletionAnswer = {
    head: { id, created: deps.clock.epochSeconds(), model: model.id, fingerprint: fingerprintOf(model) },
    delivery: request.delivery,
    echo: request.echo,
    logprobs: request.logprobs !== undefined,
    naming: { table: model.tokens, asIds: request.tokensAsIds },
    promptLogprobs: request.promptLogprobs !== undefined,
    bosToken: model.facts.bosToken,
    prompts: request.prompts.map((prompt, i) => ({
      text: echoedText(prompt, model),
      tokens: choices.promptTokens[i] ?? [],
    })),
    perPrompt: request.choices,
  };
  const vain = vainPriority(scheduling, request.generation.priority);
  return sendAnswer(c, deps, choices, {
    stream: request.delivery.stream,
    ignoredFields: reportedFields([...vain, ...request.ignoredFields], held?.relaxed ?? []),
    write: completionEventWriter(answer),
    body: (finished) => completionBody(bestOf(finished, request.bestOf, request.choices), answer),
  });
}

/** One for each prompt. */
function generateRequests(
  request: CompletionRequest,
  model: LoadedModel,
  held: HeldText | undefined,
  who: Pick<GenerateRequest, "id" | "owner" | "scheduling">,
): GenerateRequest[] {
  const { suffix, generation, addSpecialTokens } = request;
  return request.prompts.map((prompt) => ({
    ...who,
    prompt:
      suffix === undefined
        ? promptParts(prompt, model, generation.truncatePrompt)
        : fillInParts(prompt, suffix, model),
    addBos: addSpecialTokens ?? (prompt.kind === "text" || suffix !== undefined),
    promptField: "prompt",
    settings: generation,
    reasoning: undefined,
    thinking: undefined,
    calls: undefined,
    constraint: held?.constraint,
    verify: held?.verify,
    reportsPrefill: request.delivery.promptProgress,
    promptLogprobs: request.promptLogprobs ?? (request.echo ? request.logprobs : undefined),
  }));
}
