/** `/v1/requests`: shows, pauses, resumes, reprioritises and cancels requests that are being answered. */
import { z } from "zod";
import { PriorityClass } from "../../engine/sharing.ts";
import type { RequestChange } from "../../engine/sharing.ts";
import type { AppDeps } from "../deps.ts";
import { readJsonObject } from "../http/body.ts";
import { jsonReply } from "../http/reply.ts";
import { control } from "../live-requests.ts";
import type { LiveRequest } from "../live-requests.ts";
import { ApiError } from "../openai/api-error.ts";
import { priorityField, priorityName, readPriority } from "../openai/priority-field.ts";
import { unknownParameter } from "../openai/unsupported.ts";
import { missing, parseWith, withoutNulls } from "../openai/validation.ts";
import { bestClass } from "../scheduling.ts";
import type { AppContext } from "./env.ts";

const SHOWN_ID = 200;

export const requestChangeSchema = z.object({
  paused: z.boolean().optional(),
  priority: priorityField.optional(),
});

export function listRequests(c: AppContext, deps: AppDeps): Response {
  const requests = deps.live.list(visibleOwner(c, deps));
  return jsonReply({ object: "list", data: requests.map(requestJson) });
}

export function getRequest(c: AppContext, deps: AppDeps): Response {
  return jsonReply(requestJson(findRequest(c, deps)));
}

export async function changeRequest(c: AppContext, deps: AppDeps): Promise<Response> {
  const request = findRequest(c, deps);
  const change = readChange(await readJsonObject(c.req.raw, deps.config.limits), bestFor(c, deps, request));
  control(request, change);
  return jsonReply(requestJson(request));
}

export function cancelRequest(c: AppContext, deps: AppDeps): Response {
  const request = findRequest(c, deps);
  for (const generation of request.choices) generation.control.stop();
  return jsonReply({ id: request.id, object: "request", deleted: true });
}

function readChange(body: Readonly<Record<string, unknown>>, best: PriorityClass): RequestChange {
  const present = withoutNulls(body);
  for (const field of Object.keys(present)) {
    if (!Object.hasOwn(requestChangeSchema.shape, field)) throw unknownParameter(field);
  }
  const { paused, priority: field } = parseWith(requestChangeSchema, present);
  const asked = readPriority(field);
  if (paused === undefined && asked === undefined) throw missing("paused");
  return {
    ...(paused === undefined ? {} : { paused }),
    ...(asked === undefined ? {} : { priority: asked < best ? best : asked }),
  };
}

/** An operator may put anything first. */
function bestFor(c: AppContext, { config }: AppDeps, { owner }: LiveRequest): PriorityClass {
  return c.get("admin") ? PriorityClass.high : bestClass(config, owner);
}

/** Whose requests this key may see; undefined is everybody's. */
function visibleOwner(c: AppContext, { config }: AppDeps): string | undefined {
  return c.get("admin") || config.apiKeys.length === 0 ? undefined : c.get("owner");
}

function findRequest(c: AppContext, deps: AppDeps): LiveRequest {
  const id = c.req.param("id") ?? "";
  const request = deps.live.find(id, visibleOwner(c, deps));
  if (request !== undefined) return request;
  throw new ApiError("request_not_found", `No request with id '${id.slice(0, SHOWN_ID)}' is being answered.`);
}

function requestJson({ id, requestId, model, owner, choices }: LiveRequest): object {
  const states = [...choices].map((generation) => generation.state);
  const [first] = states;
  const status = (["running", "queued", "paused"] as const).find((name) =>
    states.some((state) => state.status === name),
  );
  return {
    id,
    object: "request",
    request_id: requestId ?? null,
    model,
    owner,
    status: status ?? "ended",
    priority: first === undefined ? null : priorityName(first.priority),
    choices: states.length,
    prompt_tokens: first?.promptTokens ?? 0,
    completion_tokens: states.reduce((sum, state) => sum + state.completionTokens, 0),
    age_ms: Math.round(Math.max(0, ...states.map(({ ageMs }) => ageMs))),
  };
}
