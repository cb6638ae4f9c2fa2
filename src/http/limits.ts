/** Every bound on what a client may send or hold, with the reason for the number. */

/** Parses in about 100 ms on a small machine; texts of any context a CPU can serve are far smaller. */
export const MAX_BODY_BYTES = 8 * 1024 * 1024;

/** How much of a body past the bound is read and thrown away, so that its sender hears the refusal. */
export const MAX_DISCARDED_BYTES = 64 * 1024 * 1024;

/** A sender of such a body that pauses this long gets its answer at once. */
export const DISCARD_SILENCE_MS = 300;

/** Deep nesting overflows the stack of every recursive reader; no request of a real client comes near. */
export const MAX_JSON_DEPTH = 64;

/** Each message is rendered and tokenized; longer histories do not fit a context. */
export const MAX_MESSAGES = 4096;

/** Content parts of one message, and tool calls of one message. */
export const MAX_PARTS = 256;

/** OpenAI's bound; each one is rendered and compiled. */
export const MAX_TOOLS = 128;

/** OpenAI allows 64; names that join a server's and a tool's are longer. */
export const MAX_TOOL_NAME = 128;

/** Texts of which an answer has to be one; OpenAI allows as many values in an enumeration. */
export const MAX_CHOICES_OF_TEXT = 1000;

/** OpenAI allows 4; local clients send more. Every emitted text is searched for each of them. */
export const MAX_STOPS = 16;

/** Text that may be held back while a stop string is still possible, in UTF-8 bytes. */
export const MAX_STOP_BYTES = 256;

/** Each one is looked up in each step. */
export const MAX_STOP_TOKENS = 256;

/** Each entry is applied to each step's logits. */
export const MAX_LOGIT_BIAS = 1024;

/** OpenAI's bound; each alternative is sorted out of the whole vocabulary. */
export const MAX_TOP_LOGPROBS = 20;

/** Choices of one answer over all its prompts: the newest clients refuse indices from 128 on. */
export const MAX_ANSWER_CHOICES = 128;

/** Model ids are names of files or aliases; longer ones only fill logs. */
export const MAX_MODEL_NAME = 1024;

/**
 * Longest text per token of context that is worth tokenizing, in bytes. Tokenizers read about 2 MB/s, and text
 * that long cannot fit: tokens are 4 bytes on average and very rarely longer than 16.
 */
export const MAX_BYTES_PER_CONTEXT_TOKEN = 16;

/** Added to the bound above, so that tiny contexts get the tokenizer's exact answer. */
export const TEXT_SLACK_BYTES = 4096;

/** Longest text of a `/tokenize` call, in bytes: streams wait 60 ms for it, a fraction of a step. */
export const MAX_TOKENIZE_BYTES = 128 * 1024;

/** Token ids of one `/detokenize` call: the longest contexts, and a few megabytes of text at the very most. */
export const MAX_DETOKENIZE_TOKENS = 128 * 1024;

/** Browsers open six sockets and pipeline nothing; proxies pipeline nothing either. */
export const MAX_IN_FLIGHT_PER_SOCKET = 8;

/** Names listed in the header that reports ignored fields; a header block must stay small. */
export const MAX_REPORTED_FIELDS = 32;

/** Seconds after which a refused client may try again: about the time a slot takes to come free. */
export const RETRY_AFTER_SECONDS = 2;

/** A metrics or slot reader gets the last known numbers when a busy engine takes longer than this, in ms. */
export const STATS_WAIT_MS = 250;
