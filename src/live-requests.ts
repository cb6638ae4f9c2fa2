/** The answers that are being generated, for whoever asked for them to see, pause, hurry or end by id. */
import type { RequestChange } from "../engine/sharing.ts";
import type { Generation } from "./generate.ts";

export interface LiveRequest {
  /** The answer's id, such as `chatcmpl-…`. */
  readonly id: string;
  /** That of the HTTP request, known before the answer begins. */
  readonly requestId: string | undefined;
  readonly owner: string;
  readonly model: string;
  /** In the order of their indices; those that have ended are gone. */
  readonly choices: ReadonlySet<Generation>;
}

/** Bounded by what the engines let in. */
export class LiveRequests {
  readonly #byId = new Map<string, LiveRequest & { readonly choices: Set<Generation> }>();

  /** Lists a choice until it ends. */
  add(generation: Generation, answer: Omit<LiveRequest, "choices">): void {
    const known = this.#byId.get(answer.id) ?? { ...answer, choices: new Set<Generation>() };
    known.choices.add(generation);
    this.#byId.set(answer.id, known);
    generation.control.onEnd(() => {
      known.choices.delete(generation);
      if (known.choices.size === 0 && this.#byId.get(answer.id) === known) this.#byId.delete(answer.id);
    });
  }

  /** @param owner Whose requests; undefined: everybody's. In order of arrival. */
  list(owner: string | undefined): LiveRequest[] {
    return [...this.#byId.values()].filter((request) => owner === undefined || request.owner === owner);
  }

  /** By either id; undefined where this owner has no such request. */
  find(id: string, owner: string | undefined): LiveRequest | undefined {
    const direct = this.#byId.get(id);
    const found = direct ?? this.list(owner).findLast(({ requestId }) => requestId === id);
    return found !== undefined && (owner === undefined || found.owner === owner) ? found : undefined;
  }
}

export function control({ choices }: LiveRequest, change: RequestChange): void {
  for (const generation of choices) generation.control.change(change);
}
