/** Bounds that nobody needs to set, each with the reason for the number; those that are options are in `config/limits.ts`. */

/** How much of a body past the bound is read and thrown away, so that its sender hears the refusal. */
export const MAX_DISCARDED_BYTES = 64 * 1024 * 1024;

/** A sender of such a body that pauses this long gets its answer at once. */
export const DISCARD_SILENCE_MS = 300;

/** OpenAI allows 64; names that join a server's and a tool's are longer. */
export const MAX_TOOL_NAME = 128;

/** Texts of which an answer has to be one; OpenAI allows as many values in an enumeration. */
export const MAX_CHOICES_OF_TEXT = 1000;

/** A salt is a random word; it is compared for each slot of each step. */
export const MAX_CACHE_SALT = 256;

/** Adapters of one request; each makes its steps slower. */
export const MAX_LORAS = 64;

/** Texts across which DRY sees no repetition, and their bytes: each drawn token is searched for each of them. */
export const MAX_DRY_BREAKERS = 64;
export const MAX_DRY_BREAKER_BYTES = 64;

/** Model ids are names of files or aliases; longer ones only fill logs. */
export const MAX_MODEL_NAME = 1024;

/**
 * Longest text per token of context that is worth tokenizing, in bytes. Tokenizers read about 2 MB/s, and text
 * that long cannot fit: tokens are 4 bytes on average and very rarely longer than 16.
 */
export const MAX_BYTES_PER_CONTEXT_TOKEN = 16;

/** Added to the bound above, so that tiny contexts get the tokenizer's exact answer. */
export const TEXT_SLACK_BYTES = 4096;

/** Names listed in the header that reports ignored fields; a header block must stay small. */
export const MAX_REPORTED_FIELDS = 32;

/** Seconds after which a refused client may try again: about the time a slot takes to come free. */
export const RETRY_AFTER_SECONDS = 2;

/** A metrics or slot reader gets the last known numbers when a busy engine takes longer than this, in ms. */
export const STATS_WAIT_MS = 250;
