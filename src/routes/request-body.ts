/** The body of a request for an answer, with what its path says of it. */
import type { AppDeps } from "../deps.ts";
import { readJsonObject } from "../http/body.ts";
import type { AppContext } from "./env.ts";

/**
 * A deployment in the path, as Azure's clients have it, or an engine, as OpenAI's first clients, is the model,
 * whatever the body says of one.
 * @throws {ApiError} 400, 413 or 415: no JSON object, too large, of another type.
 */
export async function readRequestBody(c: AppContext, deps: AppDeps): Promise<Record<string, unknown>> {
  const body = await readJsonObject(c.req.raw, deps.config.limits);
  const deployment = c.req.param("deployment");
  return deployment === undefined ? body : { ...body, model: deployment };
}
