/** Why a chat template gave no prompt. */

export type TemplateErrorCode =
  /** Did not finish within its deadline. */
  | "template_timeout"
  /** Wrote or used more than its limit. */
  | "template_too_large"
  /** The template refused these messages, in its own words; the client can change that. */
  | "template_rejected"
  /** The template itself is at fault. */
  | "template_failed"
  /** Too many renders wait. */
  | "template_busy";

export class TemplateError extends Error {
  override readonly name = "TemplateError";
  readonly code: TemplateErrorCode;

  constructor(code: TemplateErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
