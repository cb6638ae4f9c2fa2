/** The responses of this server: those that are stored, and those that are being made in the background. */
import { ApiError } from "../openai/api-error.ts";
import { responseIdOfItem } from "../openai/responses/items.ts";
import type { Item } from "../openai/responses/items.ts";
import { conversationOf } from "./record.ts";
import type { ResponseRecord } from "./record.ts";
import type { ResponseRun } from "./response-run.ts";
import type { ResponseStore } from "./response-store.ts";

/** Each holds a slot or a place in an engine's queue, and nobody's closed connection takes it away again. */
const MAX_BACKGROUND = 128;

export class Responses {
  readonly #store: ResponseStore;
  readonly #running = new Map<string, ResponseRun>();
  readonly #maxBackground: number;
  /** Background responses that are about to be started. */
  #reserved = 0;

  constructor(store: ResponseStore, maxBackground: number = MAX_BACKGROUND) {
    this.#store = store;
    this.#maxBackground = maxBackground;
  }

  /** Running or stored; undefined when there is none of this id that the owner may see. */
  find(id: string, owner: string): ResponseRecord | ResponseRun | undefined {
    const run = this.#running.get(id);
    if (run !== undefined) return run.owner === owner ? run : undefined;
    return this.#store.get(id, owner);
  }

  /** Finds items of stored responses, of their inputs or outputs; each response is gone through once. */
  itemFinder(owner: string): (itemId: string) => Item | undefined {
    const found = new Map<string, ReadonlyMap<string, Item>>();
    return (itemId) => {
      const responseId = responseIdOfItem(itemId);
      if (responseId === undefined) return undefined;
      let items = found.get(responseId);
      if (items === undefined) {
        const record = this.find(responseId, owner);
        items = new Map(record && conversationOf(record).map((item) => [item.id, item]));
        found.set(responseId, items);
      }
      return items.get(itemId);
    };
  }

  store(record: ResponseRecord): void {
    const { owner, head, context, log } = record;
    this.#store.put({ owner, head, context, log });
  }

  /**
   * Starts a background response in one of the places for them.
   * @throws {ApiError} 503 when there are too many already, or what `start` throws.
   */
  async startBackground(start: () => Promise<ResponseRun>): Promise<ResponseRun> {
    if (this.#running.size + this.#reserved >= this.#maxBackground) {
      throw new ApiError(
        "server_overloaded",
        "Too many responses are being made in the background. Please try again later.",
      );
    }
    this.#reserved += 1;
    try {
      const run = await start();
      if (run.running) {
        // If this process is killed the next one knows how it ended; its own end takes the place of this one.
        this.#store.put(interrupted(run));
        this.#running.set(run.head.id, run);
        void run.ended.then(() => this.#running.delete(run.head.id));
      }
      return run;
    } finally {
      this.#reserved -= 1;
    }
  }

  /** @returns Whether there was such a response; one that is being made ends. */
  delete(id: string, owner: string): boolean {
    const run = this.#running.get(id);
    if (run?.owner === owner) {
      run.cancel();
      this.#running.delete(id);
    }
    return this.#store.delete(id, owner);
  }

  /** Ends what still runs in the background; it is stored as cancelled. */
  close(): void {
    for (const run of this.#running.values()) run.cancel();
    this.#running.clear();
  }
}

/** The response as it is when nobody is left to make it. */
function interrupted({ owner, head, context }: ResponseRecord): ResponseRecord {
  const error = {
    type: "server_error",
    code: "server_error",
    message: "The server ended before this response did.",
    param: null,
  };
  return { owner, head, context, log: [{ kind: "failed", error, at: head.createdAt }] };
}
