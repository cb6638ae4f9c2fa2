/** Why a model name or a model file cannot be used, in words that say what to do next. */

export type ModelFileErrorCode =
  /** No such file, catalogue entry or download. */
  | "model_not_found"
  /** The file is there but is not a whole GGUF model. */
  | "model_invalid"
  /** The model could not be fetched. */
  | "download_failed";

export class ModelFileError extends Error {
  override readonly name = "ModelFileError";
  readonly code: ModelFileErrorCode;
  /** Byte of the file at which it stopped making sense. */
  readonly offset: number | undefined;

  constructor(
    code: ModelFileErrorCode,
    message: string,
    options: { readonly offset?: number; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.offset = options.offset;
  }
}
