/** What an engine and its prefill worker tell each other, and what the engine tells of it. */
import type { LoadOptions } from "../protocol.ts";

/** Names one prompt; never given twice to a worker. */
export type JobId = number;

export type WorkerCommand =
  /** Once, and first. `slots`: of the context that reads the files. */
  | { readonly type: "load"; readonly options: LoadOptions; readonly slots: number }
  /** Computes the tokens and writes their cells into the file, which is there. One at a time. */
  | {
      readonly type: "prefill";
      readonly job: JobId;
      readonly tokens: Uint32Array;
      readonly file: string;
    }
  /** Of the prompt under way nothing more is computed; it fails. */
  | { readonly type: "cancel"; readonly job: JobId };

export type WorkerEvent =
  | { readonly type: "ready" }
  /** Nothing can be loaded; the process ends. */
  | { readonly type: "unfit"; readonly reason: string }
  /** So many tokens are computed, but not all. */
  | { readonly type: "progress"; readonly job: JobId; readonly tokens: number }
  | { readonly type: "computed"; readonly job: JobId; readonly bytes: number }
  | { readonly type: "failed"; readonly job: JobId; readonly reason: string };

/** What the prefill worker has brought since the last message. */
export interface OffloadReport {
  readonly prompts: number;
  readonly tokens: number;
  /** From the moment it was given each to that in which its cells were read. */
  readonly ms: number;
  /** Prompts that had to be computed here after all. */
  readonly failures: number;
}
