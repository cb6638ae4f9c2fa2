/** `/v1/responses`: makes responses, and shows, replays, cancels and deletes those that are kept. */
import type { LoadedModel } from "../../models/loaded-model.ts";
import type { AppDeps } from "../deps.ts";
import { Backlog } from "../backlog.ts";
import { clientClosed } from "../client-words.ts";
import type { Generation } from "../generate.ts";
import { jsonReply } from "../http/reply.ts";
import { ApiError } from "../openai/api-error.ts";
import { keptTokens } from "../openai/prompt-cut.ts";
import { assertSomething, readInput } from "../openai/responses/input.ts";
import { itemPage, readFlag, readPageQuery, readWhole } from "../openai/responses/item-page.ts";
import { inputItemId, newResponseId } from "../openai/responses/items.ts";
import type { Item } from "../openai/responses/items.ts";
import { OutputReader } from "../openai/responses/output-events.ts";
import { readResponseRequest } from "../openai/responses/request.ts";
import type { ResponseRequest } from "../openai/responses/request.ts";
import type { ResponseHead } from "../openai/responses/response-object.ts";
import { reportedFields } from "../openai/unsupported.ts";
import { checkLength, missing } from "../openai/validation.ts";
import { conversationOf, recordJson } from "../responses/record.ts";
import type { ResponseRecord } from "../responses/record.ts";
import { ResponseRun } from "../responses/response-run.ts";
import { prepareResponse, startResponse } from "../responses/start-response.ts";
import { readScheduling, vainPriority } from "../scheduling.ts";
import type { Scheduling } from "../scheduling.ts";
import { ignoredHeader } from "./answer.ts";
import type { AppContext } from "./env.ts";
import { assertOpen, findGenerator } from "./find-model.ts";
import { readRequestBody } from "./request-body.ts";
import { noteEnd, streamResponse } from "./response-stream.ts";
import { countedTokens } from "./tokenize.ts";

export async function createResponse(c: AppContext, deps: AppDeps): Promise<Response> {
  const { request, model } = await readRequest(c, deps);
  const id = newResponseId(deps.ids);
  const context = readContext(deps, request, { id, owner: c.get("owner") });
  const scheduling = readScheduling(c, deps);
  const parts: RunParts = { id, owner: c.get("owner"), scheduling, request, model, context };
  const run = request.background
    ? await deps.responses.startBackground(() => startRun(deps, parts, new AbortController()))
    : await startRun(deps, parts, c.get("scope"));
  c.get("notes").allowance = run.allowance;
  c.get("notes").served = () => run.served;
  const vain = vainPriority(scheduling, request.turn.generation.priority);
  const headers = ignoredHeader(reportedFields([...vain, ...request.ignoredFields], run.relaxed));
  if (request.stream) return streamResponse(c, deps, run, { after: -1, headers });
  if (request.background) return jsonReply(recordJson(run), 200, headers);
  const end = await run.ended;
  if (end.kind === "cancelled") throw clientClosed();
  if (end.kind === "failed") throw run.error;
  noteEnd(c, end);
  return jsonReply(recordJson(run), 200, headers);
}

export async function countInputTokens(c: AppContext, deps: AppDeps): Promise<Response> {
  const { request, model } = await readRequest(c, deps);
  const id = newResponseId(deps.ids);
  const context = readContext(deps, request, { id, owner: c.get("owner") });
  const { prompt, relaxed } = await prepareResponse(model, request, context);
  const tokens = await countedTokens(model, prompt.parts, true, deps.config.limits);
  const most = keptTokens(request.turn.generation.truncatePrompt, model.facts.contextTokens);
  return jsonReply(
    { object: "response.input_tokens", input_tokens: Math.min(tokens.length, most) },
    200,
    ignoredHeader(reportedFields(request.ignoredFields, relaxed)),
  );
}

export function getResponse(c: AppContext, deps: AppDeps): Response {
  const record = findRecord(c, deps);
  if (!readFlag(c.req.query("stream"), "stream")) return jsonReply(recordJson(record));
  const after = readWhole(c.req.query("starting_after"), "starting_after") ?? -1;
  return streamResponse(c, deps, record, { after, headers: {} });
}

export function deleteResponse(c: AppContext, deps: AppDeps): Response {
  const { head } = findRecord(c, deps);
  deps.responses.delete(head.id, c.get("owner"));
  return jsonReply({ id: head.id, object: "response", deleted: true });
}

export function cancelResponse(c: AppContext, deps: AppDeps): Response {
  const record = findRecord(c, deps);
  if (!record.head.background) {
    throw new ApiError("invalid_value", "Cannot cancel a synchronous response.");
  }
  if (record instanceof ResponseRun) record.cancel();
  return jsonReply(recordJson(record));
}

export function listInputItems(c: AppContext, deps: AppDeps): Response {
  const { context } = findRecord(c, deps);
  return jsonReply(
    itemPage(
      context,
      readPageQuery((name) => c.req.query(name)),
    ),
  );
}

function findRecord(c: AppContext, deps: AppDeps): ResponseRecord {
  c.get("notes").endpoint = "responses";
  const id = c.req.param("id") ?? "";
  const record = deps.responses.find(id, c.get("owner"));
  if (record !== undefined) return record;
  throw new ApiError("response_not_found", `Response with id '${id.slice(0, 200)}' not found.`);
}

async function readRequest(
  c: AppContext,
  deps: AppDeps,
): Promise<{ readonly request: ResponseRequest; readonly model: LoadedModel }> {
  const notes = c.get("notes");
  notes.endpoint = "responses";
  const request = readResponseRequest(await readRequestBody(c, deps), deps.config);
  assertOpen(deps);
  const { served } = deps.models;
  const name = request.model ?? (served.length === 1 ? served[0]?.id : undefined);
  const model = findGenerator(deps, name, request.turn.generation.lora);
  notes.model = model.id;
  return { request, model };
}

/** The items the model is given: those of the response that is continued, then the request's own. */
function readContext(
  deps: AppDeps,
  request: ResponseRequest,
  { id, owner }: { readonly id: string; readonly owner: string },
): readonly Item[] {
  const { input, previousResponseId } = request;
  const before = previousResponseId === undefined ? [] : earlierItems(deps, previousResponseId, owner);
  if (input === undefined && previousResponseId === undefined) throw missing("input");
  const own =
    input === undefined
      ? []
      : readInput(input, {
          newId: (type, index) => inputItemId(id, type, index),
          resolve: deps.responses.itemFinder(owner),
          limits: deps.config.limits,
        });
  const items = [...before, ...own];
  checkLength(items, deps.config.limits["max-messages"], "input", "max-messages");
  assertSomething(items);
  return items;
}

function earlierItems(deps: AppDeps, id: string, owner: string): readonly Item[] {
  const record = deps.responses.find(id, owner);
  if (record === undefined) {
    throw new ApiError(
      "previous_response_not_found",
      `Previous response with id '${id.slice(0, 200)}' not found.`,
      "previous_response_id",
    );
  }
  if (record instanceof ResponseRun && record.running) {
    throw new ApiError(
      "invalid_value",
      `Previous response with id '${id}' is still in progress.`,
      "previous_response_id",
    );
  }
  return conversationOf(record);
}

interface RunParts {
  readonly id: string;
  readonly owner: string;
  readonly scheduling: Scheduling;
  readonly request: ResponseRequest;
  readonly model: LoadedModel;
  readonly context: readonly Item[];
}

/** @param lifetime What ends the generation: the request's scope, or a controller of its own. */
async function startRun(
  deps: AppDeps,
  { id, owner, scheduling, request, model, context }: RunParts,
  lifetime: { readonly signal: AbortSignal; abort(): void },
): Promise<ResponseRun> {
  const head = responseHead(deps, { id, request, model });
  const epochSeconds = (): number => deps.clock.epochSeconds();
  const started = await startResponse(deps, model, request, {
    id,
    owner,
    scheduling,
    context,
    nextCallId: () => deps.ids.next("call_"),
    signal: lifetime.signal,
  });
  const run = new ResponseRun(started.generation, {
    owner,
    head,
    context: started.context,
    allowance: started.generation.allowance,
    relaxed: started.relaxed,
    reader: new OutputReader({
      table: model.tokens,
      logprobs: request.logprobs,
      timed: request.timingsPerToken,
      customTools: request.customTools,
      epochSeconds,
    }),
    streamed: request.stream || request.background,
    epochSeconds,
    backlog: request.stream && !request.background ? backlogOf(deps, started.generation) : undefined,
    abort: () => lifetime.abort(),
    onEnd: (end, error) => {
      // Nobody ever heard the id of an answer that its client did not wait for.
      if (request.store && (request.background || end.kind !== "cancelled")) deps.responses.store(run);
      if (request.background && end.kind === "failed") {
        deps.log.error({ responseId: id, err: error }, "background response failed");
      }
    },
  });
  return run;
}

/** Only a client that reads while it is made can hold it back. */
function backlogOf({ config }: AppDeps, generation: Generation): Backlog {
  return new Backlog(config.limits["max-unsent-events"], (full) => generation.setPaused(full));
}

function responseHead(
  deps: AppDeps,
  {
    id,
    request,
    model,
  }: { readonly id: string; readonly request: ResponseRequest; readonly model: LoadedModel },
): ResponseHead {
  const { echo, background, style } = request;
  return {
    id,
    createdAt: deps.clock.epochSeconds(),
    background,
    echo: {
      model: model.id,
      temperature: echo.temperature ?? model.sampling.temperature,
      top_p: echo.topP ?? model.sampling.topP,
      ...echo.fields,
    },
    style,
  };
}
