/**
 * Every bound that an operator may set on what clients send or hold. A limit is called the same on the command line,
 * in the code and in the error that a client gets: its name is the flag.
 */
import { option } from "./option-spec.ts";
import type { OptionSpec } from "./option-spec.ts";
import { integer, time } from "./value-kinds.ts";

const MIB = 1024 * 1024;

/** Upper ends are what the code behind has been made for; where they equal the default, the limit can be lowered only. */
export const limitOptions = {
  // Each socket costs a file descriptor; common limits start at 4096 above what else a process needs.
  "max-connections": option(
    integer("count", 1, 1_000_000),
    4096,
    "most open connections; more are closed at once",
  ),
  // Browsers open six sockets and pipeline nothing; proxies pipeline nothing either.
  "max-requests-per-connection": option(
    integer("count", 1, 1000),
    8,
    "most unanswered requests of one connection; more are answered 503",
  ),
  "max-header-bytes": option(
    integer("bytes", 1024, MIB),
    16_384,
    "most of all headers of a request; more is answered 431",
  ),
  // A client that sends its headers a byte at a time holds a socket no longer than this.
  "max-header-seconds": option(
    time("s", 0.1, 3600),
    10,
    "longest time to send the headers; then the answer is 408",
  ),
  // Eight megabytes in it are 140 kB/s.
  "max-request-seconds": option(
    time("s", 0.1, 3600),
    60,
    "longest time to send headers and body; then the answer is 408",
  ),
  // Parses in about 100 ms on a small machine; texts of any context a CPU can serve are far smaller.
  "max-body-bytes": option(integer("bytes", 1024, 256 * MIB), 8 * MIB, "largest body; more is answered 413"),
  // Deep nesting overflows the stack of every recursive reader; no request of a real client comes near.
  "max-json-depth": option(integer("levels", 4, 256), 64, "most levels of nesting in a body"),
  // Two million empty objects fit a body and take a second to parse, a hundred thousand keys a tenth of one, while every
  // stream waits. Numbers cost next to nothing.
  "max-json-nodes": option(
    integer("count", 1000, 10_000_000),
    100_000,
    "most objects, arrays and keys of objects in a body",
  ),
  // No request has a hundred; each is looked at a few times, and two hundred thousand held every stream for a second.
  "max-fields": option(integer("count", 100, 100_000), 1000, "most fields of a body itself"),
  // Each message is rendered and tokenized; longer histories do not fit a context.
  "max-messages": option(
    integer("count", 1, 100_000),
    4096,
    "most messages of a chat, or input items of a response",
  ),
  "max-message-parts": option(
    integer("count", 1, 10_000),
    256,
    "most content parts, and most tool calls, of one message",
  ),
  // OpenAI's bound; each one is rendered and compiled.
  "max-tools": option(integer("count", 1, 1024), 128, "most tools"),
  // OpenAI allows 4; local clients send more. Every emitted text is searched for each of them.
  "max-stops": option(integer("count", 1, 256), 16, "most stop strings"),
  // Text that may be held back while a stop string is still possible.
  "max-stop-bytes": option(integer("bytes", 1, 4096), 256, "longest stop string"),
  // Each one is looked up in each step.
  "max-stop-tokens": option(integer("count", 1, 4096), 256, "most `stop_token_ids`"),
  // Each entry is applied to each step's logits.
  "max-logit-bias": option(integer("count", 1, 16_384), 1024, "most entries of `logit_bias`"),
  // OpenAI's bound; each alternative is sorted out of the whole vocabulary.
  "max-top-logprobs": option(integer("count", 0, 20), 20, "most alternatives of each token (`top_logprobs`)"),
  "max-choices": option(
    integer("count", 1, 128),
    16,
    "most choices (`n`, `best_of`) of one prompt; each is a request of its own to the queue",
  ),
  // The newest clients refuse indices from 128 on.
  "max-answer-choices": option(
    integer("count", 1, 128),
    128,
    "most choices of one answer over all its prompts",
  ),
  "max-prompt-tokens": option(
    integer("tokens", 1, 16_777_216),
    16_777_216,
    "longest prompt; the context bounds it as well",
  ),
  // A body of this size compiles in well under a second.
  "max-schema-characters": option(
    integer("count", 16, 2_000_000),
    2_000_000,
    "longest JSON schema, of a tool or an answer, without spaces",
  ),
  "max-grammar-characters": option(integer("count", 16, 200_000), 200_000, "longest GBNF grammar"),
  // A long conversation renders in a few ms; this is for templates that never end.
  "max-template-ms": option(time("ms", 10, 600_000), 1000, "longest time to render a prompt"),
  // Streams wait 60 ms for it, a fraction of a step.
  "max-tokenize-bytes": option(
    integer("bytes", 1, 16 * MIB),
    128 * 1024,
    "longest text to `/tokenize`, and to cut",
  ),
  // The longest contexts, and a few megabytes of text at the very most.
  "max-detokenize-tokens": option(integer("tokens", 1, 16 * MIB), 128 * 1024, "most tokens to `/detokenize`"),
  // At 8 slots and 5 s an answer, the last of 256 waits under three minutes; clients give up later than that.
  "max-queued": option(
    integer("count", 0, 100_000),
    256,
    "most requests that wait for a slot of a model; more are answered 503",
  ),
  // Beyond what the system buffers; about 200 kB as chunks. A client that falls so far behind has stopped reading.
  "max-unsent-events": option(
    integer("count", 1, 1_000_000),
    1024,
    "most pieces of a choice that wait for a client that does not read; its generation pauses meanwhile",
  ),
} as const satisfies Readonly<Record<`max-${string}`, OptionSpec<number, number>>>;

export type LimitName = keyof typeof limitOptions;

/** In the unit that the limit's name or description says. */
export type Limits = { readonly [N in LimitName]: number };

export const limitNames = Object.keys(limitOptions) as LimitName[];

export const DEFAULT_LIMITS: Limits = limitsOf((name) => limitOptions[name].default);

/** The limits alone, of all options. */
export function pickLimits(values: Limits): Limits {
  return limitsOf((name) => values[name]);
}

function limitsOf(value: (name: LimitName) => number): Limits {
  return Object.fromEntries(limitNames.map((name) => [name, value(name)])) as Limits;
}
