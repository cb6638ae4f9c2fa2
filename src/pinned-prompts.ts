/** Makes of what the operator has pinned whole prompts, as requests would have them, for the engine to see what they share. */
import type { PinPrompt } from "../engine/protocol.ts";
import type { LoadedModel } from "../models/loaded-model.ts";
import { prepareChatTurn } from "./chat-turn.ts";
import { ConfigError } from "./config/config-error.ts";
import type { PinOption } from "./config/pin-options.ts";
import { ApiError } from "./openai/api-error.ts";
import { readChatRequest } from "./openai/chat-request.ts";
import type { RequestLimits } from "./openai/generation-fields.ts";

/** Turns of users that have nothing in common: what their prompts begin with is there before anything of them. */
const TURNS = ["a", "\n\n1", " B"];

/**
 * Of one model, its adapters included.
 * @throws {ConfigError} For what is no beginning of a chat, or cannot be told in the model's template.
 */
export async function pinPrompts(
  model: LoadedModel,
  options: readonly PinOption[],
  allowed: RequestLimits,
): Promise<PinPrompt[]> {
  const prompts: PinPrompt[] = [];
  for (const { name, adapter: wanted, body } of options.filter((option) => option.model === model.id)) {
    const adapter = model.adapters.findIndex((one) => one.name === wanted);
    const scale = model.adapters[adapter]?.scale ?? 1;
    prompts.push({
      name,
      prompts: await Promise.all(TURNS.map((turn) => promptOf(model, { name, body }, turn, allowed))),
      adapters: adapter < 0 ? [] : [{ adapter, scale }],
    });
  }
  return prompts;
}

async function promptOf(
  model: LoadedModel,
  { name, body }: Pick<PinOption, "name" | "body">,
  turn: string,
  allowed: RequestLimits,
): Promise<PinPrompt["prompts"][number]> {
  const messages = [...(body["messages"] as readonly unknown[]), { role: "user", content: turn }];
  try {
    const request = readChatRequest({ ...body, model: model.id, messages }, allowed);
    return (await prepareChatTurn(model, request.turn)).prompt.parts;
  } catch (error) {
    if (error instanceof ApiError) throw new ConfigError(`${name} cannot be pinned: ${error.message}`);
    throw error;
  }
}
