/** Finished responses, kept for later requests: bounded in number and size, the longest unused go first. */
import type { ResponseRecord } from "./record.ts";

/** OpenAI keeps responses as long. */
const MAX_AGE_SECONDS = 30 * 24 * 3600;

export interface StoreLimits {
  readonly responses: number;
  /** Of the records' JSON, in UTF-16 units: about the bytes they take. */
  readonly size: number;
}

export const DEFAULT_STORE_LIMITS: StoreLimits = { responses: 10_000, size: 64 * 1024 * 1024 };

/** Where changes are written down, if anywhere. */
export interface Journal {
  /** @param json A record. */
  put(json: string): void;
  delete(id: string): void;
}

interface Entry {
  readonly record: ResponseRecord;
  readonly size: number;
}

export class ResponseStore {
  readonly #limits: StoreLimits;
  readonly #epochSeconds: () => number;
  readonly #journal: Journal | undefined;
  /** The longest unused comes first. */
  readonly #entries = new Map<string, Entry>();
  #size = 0;

  constructor(limits: StoreLimits, epochSeconds: () => number, journal?: Journal) {
    this.#limits = limits;
    this.#epochSeconds = epochSeconds;
    this.#journal = journal;
  }

  get count(): number {
    return this.#entries.size;
  }

  get size(): number {
    return this.#size;
  }

  /** The longest unused comes first. */
  *records(): Generator<ResponseRecord, void, void> {
    for (const { record } of this.#entries.values()) yield record;
  }

  /** Takes over what an earlier process has written down; the oldest come first. */
  restore(records: Iterable<ResponseRecord>): void {
    for (const record of records) this.#add(record, JSON.stringify(record).length);
  }

  put(record: ResponseRecord): void {
    const json = JSON.stringify(record);
    const isKnown = this.#remove(record.head.id);
    if (this.#add(record, json.length)) this.#journal?.put(json);
    else if (isKnown) this.#journal?.delete(record.head.id);
  }

  /** Undefined when there is no such response, or it is somebody else's. */
  get(id: string, owner: string): ResponseRecord | undefined {
    const entry = this.#entries.get(id);
    if (entry?.record.owner !== owner) return undefined;
    if (this.#epochSeconds() - entry.record.head.createdAt > MAX_AGE_SECONDS) {
      this.#forget(id);
      return undefined;
    }
    this.#entries.delete(id);
    this.#entries.set(id, entry);
    return entry.record;
  }

  /** @returns Whether there was such a response of this owner. */
  delete(id: string, owner: string): boolean {
    if (this.#entries.get(id)?.record.owner !== owner) return false;
    this.#forget(id);
    return true;
  }

  /** @returns False for a record that is too large for the whole store. */
  #add(record: ResponseRecord, size: number): boolean {
    if (size > this.#limits.size) return false;
    this.#entries.set(record.head.id, { record, size });
    this.#size += size;
    while (this.#entries.size > this.#limits.responses || this.#size > this.#limits.size) {
      const [oldest] = this.#entries.keys();
      if (oldest === undefined) break;
      this.#forget(oldest);
    }
    return this.#entries.has(record.head.id);
  }

  #forget(id: string): void {
    if (this.#remove(id)) this.#journal?.delete(id);
  }

  #remove(id: string): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined) return false;
    this.#entries.delete(id);
    this.#size -= entry.size;
    return true;
  }
}
