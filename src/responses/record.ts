/** A response as it is kept: everything that its object, its events and a follow-up request can be made of. */
import type { Item } from "../openai/responses/items.ts";
import type { OutputEvent } from "../openai/responses/output-events.ts";
import { foldResponse } from "../openai/responses/response-events.ts";
import type { ResponseHead, ResponseJson } from "../openai/responses/response-object.ts";

/** Plain data: it can be written as JSON. */
export interface ResponseRecord {
  /** The name of the API key that made it; nobody else sees it. */
  readonly owner: string;
  readonly head: ResponseHead;
  /** The items that the model was given, earlier responses' included, without instructions. */
  readonly context: readonly Item[];
  readonly log: readonly OutputEvent[];
}

export function recordJson({ head, log }: ResponseRecord): ResponseJson {
  return foldResponse(head, log);
}

/** What a request that continues this response begins with. */
export function conversationOf(record: ResponseRecord): readonly Item[] {
  return [...record.context, ...recordJson(record).output];
}
