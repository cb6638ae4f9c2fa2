/** What waits for one reader, and whether whoever makes it should hold on: above a mark it stops, at half of it it goes on. */

export class Backlog {
  readonly #most: number;
  readonly #onChange: (full: boolean) => void;
  #waiting = 0;
  #full = false;

  /**
   * @param most How much may wait before it is full.
   * @param onChange Called when it becomes full, and when there is room again.
   */
  constructor(most: number, onChange: (full: boolean) => void) {
    this.#most = most;
    this.#onChange = onChange;
  }

  /** One more waits. */
  add(): void {
    this.#waiting++;
    if (!this.#full && this.#waiting > this.#most) this.#set(true);
  }

  /** One has been handed over. */
  take(): void {
    this.#waiting--;
    // Half of it, so that a steady reader does not stop and start the writer with each piece.
    if (this.#full && this.#waiting <= this.#most / 2) this.#set(false);
  }

  #set(full: boolean): void {
    this.#full = full;
    this.#onChange(full);
  }
}
