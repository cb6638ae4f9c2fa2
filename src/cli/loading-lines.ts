/** What the server prints from the moment it listens until its models are loaded: address, model, progress, measuring. */
import type { ProgressTarget } from "./terminal-progress.ts";

export class LoadingLines {
  readonly #target: ProgressTarget;
  /** What the open line of a terminal shows. */
  #percent: number | undefined;
  #model: string | undefined;
  #measuring = false;
  #ended = false;

  constructor(target: ProgressTarget = process.stdout) {
    this.#target = target;
  }

  /** @param url Base of all URLs, without a slash at the end. */
  begin(version: string, url: string): void {
    this.#target.write(`Weft ${version}\n  address  ${url}, where requests get 503 until it is ready\n`);
  }

  /** @param ratio Of the model's file that has been read: 0 to 1, at which the machine is measured with it. */
  progress(model: string, ratio: number): void {
    if (this.#ended) return;
    if (model !== this.#model) {
      this.#closeLine();
      this.#model = model;
      this.#measuring = false;
      if (this.#target.isTTY !== true) this.#target.write(`  loading  ${model}\n`);
    }
    if (this.#measuring) return;
    if (ratio < 1) return this.#show(model, Math.floor(ratio * 100));
    this.#measuring = true;
    this.#show(model, 100);
    this.#closeLine();
    this.#target.write(`  measure  how fast this machine computes ${model}\n`);
  }

  /** What engines that are started later tell is not shown. */
  end(): void {
    this.#closeLine();
    this.#ended = true;
  }

  /** One moving line, on a terminal only. */
  #show(model: string, percent: number): void {
    if (this.#target.isTTY !== true || percent === this.#percent) return;
    this.#percent = percent;
    this.#target.write(`\r  loading  ${model}, ${percent} %`);
  }

  #closeLine(): void {
    if (this.#percent !== undefined) this.#target.write("\n");
    this.#percent = undefined;
  }
}
