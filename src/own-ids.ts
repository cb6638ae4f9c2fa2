/** What an engine says of requests, by the names that their clients know: an engine has others for those it was given again. */
import type { EngineEvent, RequestId, RequestMove } from "../engine/protocol.ts";

/** @returns Undefined for a request that nobody knows any more. */
export type OwnId = (engineId: RequestId) => RequestId | undefined;

type CallAnswer = Extract<EngineEvent, { call: number }>;

export function withOwnIds(event: CallAnswer, ownId: OwnId): CallAnswer {
  if (event.type === "stats") {
    const slots = event.stats.slots.map((slot) => ({
      ...slot,
      requestId: ownId(slot.requestId ?? "") ?? slot.requestId,
    }));
    return { ...event, stats: { ...event.stats, slots } };
  }
  if (event.type !== "timeline") return event;
  const requests = event.timeline.requests.map((request) => ({
    ...request,
    id: ownId(request.id) ?? request.id,
  }));
  return { ...event, timeline: { ...event.timeline, requests } };
}

/** Without those of requests that nobody knows any more. */
export function movesByOwnIds(moves: readonly RequestMove[], ownId: OwnId): readonly RequestMove[] {
  return moves.flatMap(({ id, to }) => {
    const own = ownId(id);
    return own === undefined ? [] : [{ id: own, to }];
  });
}
