/** `GET /slots`, `/props` and `/metrics`: what the server is doing and what it allows. */
import type { SlotStats } from "../../engine/engine-stats.ts";
import type { DraftFacts } from "../../engine/protocol.ts";
import { limitNames } from "../config/limits.ts";
import type { AppDeps } from "../deps.ts";
import { jsonReply } from "../http/reply.ts";
import { mayActForAll } from "../middleware/authenticate.ts";
import { statsWithin } from "../metrics/metrics.ts";
import { ApiError } from "../openai/api-error.ts";
import type { AppContext } from "./env.ts";
import { findModel, listOfModels } from "./find-model.ts";

/** What llama.cpp's clients read as no fixed seed. */
const ANY_SEED = 0xff_ff_ff_ff;

/** A slot list is worth waiting one long step for, in ms. */
const SLOTS_WAIT_MS = 5000;

export async function slots(c: AppContext, deps: AppDeps): Promise<Response> {
  const hideOwner = !mayActForAll(deps.config);
  const list = await listOfModels(deps, c.req.query("model"), async (model) => {
    const stats = await statsWithin(model, SLOTS_WAIT_MS);
    return stats?.slots.map((slot) => ({
      ...slotJson(slot, model.facts.contextTokens, hideOwner),
      // Where there is a draft model: whether it has not failed.
      speculative: stats.drafting === true,
    }));
  });
  return jsonReply(list);
}

/** What the operator has pinned (`--pin-prompt`) and is there. */
export async function pins(c: AppContext, deps: AppDeps): Promise<Response> {
  const list = await listOfModels(deps, c.req.query("model"), async (model) => {
    const stats = await statsWithin(model, SLOTS_WAIT_MS);
    const { pins: kept = [] } = stats ?? {};
    if (stats === undefined) return undefined;
    return kept.map(({ name, tokens, bytes, hits }) => ({ name, n_tokens: tokens, bytes, hits }));
  });
  return jsonReply(list);
}

/** llama.cpp's ways to write a slot to a file, to read it back and to empty it: slots are the scheduler's to give. */
export function slotAction(): never {
  throw new ApiError(
    "unsupported_parameter",
    "Slots are not saved, restored or erased by request: which slot a request gets is decided here. Computed prompts " +
      "are kept and read back without being asked for (--spill-size); cache_prompt and cache_salt keep a request from " +
      "reusing them.",
    "action",
  );
}

export function props(c: AppContext, deps: AppDeps): Response {
  const model = findModel(deps, c.req.query("model") ?? deps.models.served[0]?.id);
  const { facts, template, sampling } = model;
  const { requestDefaults: defaults = {} } = deps.config;
  const most = defaults.max_tokens ?? -1;
  return jsonReply({
    default_generation_settings: {
      n_ctx: facts.contextTokens,
      params: {
        temperature: defaults.temperature ?? sampling.temperature,
        top_p: defaults.top_p ?? sampling.topP,
        top_k: Math.max(0, defaults.top_k ?? 0),
        min_p: defaults.min_p ?? 0,
        repeat_penalty: defaults.repeat_penalty ?? 1,
        presence_penalty: defaults.presence_penalty ?? 0,
        frequency_penalty: defaults.frequency_penalty ?? 0,
        max_tokens: most,
        n_predict: most,
        // Drawn for each request where none is fixed.
        seed: defaults.seed ?? ANY_SEED,
        // Where it is not said, the template decides.
        ...(defaults.enable_thinking === undefined ? {} : { enable_thinking: defaults.enable_thinking }),
      },
    },
    total_slots: facts.slots,
    model_alias: model.id,
    // Where it lies is the operator's business.
    model_path: model.fileName,
    chat_template: template?.source ?? null,
    modalities: { vision: false, audio: false },
    build_info: `weft ${deps.config.version}`,
    device: facts.device,
    draft_model: draftJson(facts.draft),
    limits: Object.fromEntries(
      limitNames.map((name) => [name.slice("max-".length).replaceAll("-", "_"), deps.config.limits[name]]),
    ),
  });
}

export async function metrics(_c: AppContext, deps: AppDeps): Promise<Response> {
  const text = await deps.metrics.render(deps.models);
  const headers = {
    "content-type": deps.metrics.contentType,
    "process-start-time-unix": String(deps.metrics.startedSeconds),
  };
  return new Response(text, { headers });
}

function draftJson(draft: DraftFacts | undefined): object | null {
  if (draft === undefined) return null;
  const { name, parameters, sizeBytes, contextBytes } = draft;
  return { name, n_params: parameters, size: sizeBytes, context_bytes: contextBytes };
}

function slotJson(slot: SlotStats, contextTokens: number, hideOwner: boolean): object {
  return {
    id: slot.id,
    state: slot.state,
    is_processing: slot.state === "prefill" || slot.state === "decode",
    n_ctx: contextTokens,
    n_tokens: slot.tokens,
    n_prompt_tokens: slot.promptTokens,
    n_cached_tokens: slot.cachedTokens,
    n_decoded: slot.outputTokens,
    ...(hideOwner ? {} : { request_id: slot.requestId ?? null, owner: slot.owner ?? null }),
  };
}
