/**
 * Which request may be the one its engine dies of: evidence gathered from one death to the next.
 *
 * A request that was there at two crashes in a row is a suspect and is tried alone; one that crashes an engine
 * twice while it is alone in it is guilty. A kill from outside (an operator, the kernel's memory killer) says
 * next to nothing about a request, so it takes many of them in a row. Tokens in between clear a request.
 */

/** How an engine ended: by itself or by being stuck, by a kill from outside, or because it was asked to. */
export type Death = "crash" | "killed" | "planned";

const WEIGHTS: Readonly<Record<Death, number>> = { crash: 16, killed: 1, planned: 0 };
/** Two crashes. */
const ENOUGH = 2 * WEIGHTS.crash;
/** Output tokens after which a request has got past what it may have died of. */
const CLEARING_TOKENS = 8;
/** However much it brings between deaths, a request ends after so many engines. */
const MOST_DEATHS = 100;

export class Suspicion {
  #deaths = 0;
  /** Weight of the deaths since the last progress, and of those in which no other request was there. */
  #weight = 0;
  #aloneWeight = 0;
  /** Output tokens at the last death. */
  #tokens = 0;

  /** Whether it should run alone until it is cleared. */
  get suspect(): boolean {
    return this.#weight >= ENOUGH;
  }

  /** Whether no engine should see it again. */
  get guilty(): boolean {
    return this.#aloneWeight >= ENOUGH || this.#deaths >= MOST_DEATHS;
  }

  /** @param tokens Output tokens the request has by then. */
  noteDeath(death: Death, tokens: number, alone: boolean): void {
    this.noteProgress(tokens);
    this.#tokens = tokens;
    this.#deaths += death === "planned" ? 0 : 1;
    this.#weight += WEIGHTS[death];
    if (alone) this.#aloneWeight += WEIGHTS[death];
  }

  /** Forgets the evidence when the request has come far enough since its last death. */
  noteProgress(tokens: number): void {
    if (tokens - this.#tokens < CLEARING_TOKENS) return;
    this.#weight = 0;
    this.#aloneWeight = 0;
  }
}
