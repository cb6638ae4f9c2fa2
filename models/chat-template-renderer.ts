/** Renders chat templates in a thread of their own, and says in a template's terms what went wrong there. */
import { TemplateError } from "./chat-template-error.ts";
import type { RenderJob, RenderReply } from "./chat-template-worker.ts";
import { JobError, JobThread } from "./job-thread.ts";
import type { JobThreadOptions } from "./job-thread.ts";
import { THREAD_HEAP_MB } from "./start-thread.ts";

/** A long conversation renders in a few ms; this is for templates that never end. */
const DEADLINE_MS = 1000;

/** As many as requests may wait for a slot. */
const MAX_QUEUED = 256;

export class TemplateRenderer {
  readonly #thread: JobThread<RenderJob, RenderReply>;
  readonly #deadlineMs: number;

  constructor({ deadlineMs = DEADLINE_MS, maxQueued = MAX_QUEUED }: Partial<JobThreadOptions> = {}) {
    this.#deadlineMs = deadlineMs;
    this.#thread = new JobThread("chat-template-worker", { deadlineMs, maxQueued });
  }

  /** @throws {TemplateError} Any code. */
  async render(job: RenderJob): Promise<string> {
    const reply = await this.#thread.run(job).catch((error: unknown) => {
      throw error instanceof JobError ? this.#errorOf(error) : error;
    });
    switch (reply.type) {
      case "rendered":
        return reply.text;
      case "rejected":
        throw new TemplateError("template_rejected", reply.message);
      case "too_large":
        throw new TemplateError(
          "template_too_large",
          `The model's chat template wrote more than ${reply.limit} characters.`,
        );
      case "failed":
        throw new TemplateError("template_failed", `The model's chat template failed: ${reply.message}`);
    }
  }

  /** Fails what waits and ends the thread. */
  close(): Promise<void> {
    return this.#thread.close();
  }

  #errorOf({ code, message }: JobError): TemplateError {
    switch (code) {
      case "busy":
        return new TemplateError("template_busy", "Too many prompts are waiting to be rendered.");
      case "timeout":
        return new TemplateError(
          "template_timeout",
          `The model's chat template did not finish within ${this.#deadlineMs} ms.`,
        );
      case "out_of_memory":
        return new TemplateError(
          "template_too_large",
          `The model's chat template used more than ${THREAD_HEAP_MB} MB.`,
        );
      case "closed":
      case "failed":
        return new TemplateError("template_failed", message);
    }
  }
}
