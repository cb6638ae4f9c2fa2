/** Which revision of a hub's repository a download is of: all parts of a model, however many tries they take, of one. */
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** In the folder of a download that has begun. */
const FILE = ".revision";
/** The newest, whatever it is by then. */
const NEWEST = "main";

export class Revision {
  readonly #directory: string;
  #name: string;
  #isEarlier: boolean;

  private constructor(directory: string, earlier: string | undefined) {
    this.#directory = directory;
    this.#name = earlier ?? NEWEST;
    this.#isEarlier = earlier !== undefined;
  }

  /** The one that an earlier try has begun with, else the newest. */
  static async of(directory: string): Promise<Revision> {
    const text = await readFile(join(directory, FILE), "utf8").catch(() => "");
    return new Revision(directory, /^[0-9a-f]{40}$/.exec(text)?.[0]);
  }

  /** What to ask the hub for. */
  get name(): string {
    return this.#name;
  }

  /** Whether it was found in the folder. */
  get isEarlier(): boolean {
    return this.#isEarlier;
  }

  /** What the hub gives; from then on nothing else is asked for. */
  async note(revision: string | undefined): Promise<void> {
    if (revision === undefined || this.#name !== NEWEST) return;
    this.#name = revision;
    await writeFile(join(this.#directory, FILE), revision);
  }

  /** Begins anew, with the newest and an empty folder. */
  async drop(): Promise<void> {
    for (const file of await readdir(this.#directory))
      await rm(join(this.#directory, file), { recursive: true, force: true });
    this.#name = NEWEST;
    this.#isEarlier = false;
  }
}
