/**
 * Every option of the server: one table that the command line, `--help`, the environment and the configuration
 * file are derived from.
 */
import { SHORT_PROMPT_TOKENS } from "../../engine/sharing.ts";
import { MOST_THREADS } from "../../models/command-line/thread-count.ts";
import { adapterOptions } from "./adapter-options.ts";
import { keyList } from "./api-keys.ts";
import { keyPolicies } from "./key-policies.ts";
import { limitOptions } from "./limits.ts";
import { requestDefaults } from "./request-defaults.ts";
import { option } from "./option-spec.ts";
import type { OptionSpec } from "./option-spec.ts";
import { amount, byteSize, choice, flag, integer, list, text, time } from "./value-kinds.ts";

/** Slots cost memory for their context; eight keep most of a CPU's batching gain. */
const DEFAULT_SLOTS = 8;
/** llama.cpp's own bound on parallel sequences. */
const MAX_SLOTS = 256;

/** A busy machine may stop an engine for seconds; nobody waits much longer than this for a token. */
const DEFAULT_STUCK_AFTER_SECONDS = 30;

/** Enough for hours of a CPU's steps; each takes a few hundred bytes. */
const MAX_TIMELINE_STEPS = 100_000;

/** Keys are the names: `--max-queued`, `WEFT_MAX_QUEUED` and `"max-queued"` are the same option. */
export const serveOptions = {
  model: option(
    list("name"),
    [],
    "model to serve, repeatable; a name, a .gguf path or hf:org/repo:QUANT; `id=` in front names it (default: pocket)",
    "WEFT_MODEL",
  ),
  "share-device": option(
    choice("auto", "on", "off"),
    "auto",
    "several models take turns on the device instead of computing at the same time; auto: unless --gpu off and --threads leave each of them cores of its own",
  ),
  "model-weight": option(
    list("weight"),
    [],
    "how much more of the device a model has than one of weight 1 while both want it, repeatable: NAME=2 (default: 1)",
    "WEFT_MODEL_WEIGHTS",
  ),
  alias: option(
    list("name"),
    [],
    "another name that clients may ask for the first model by, repeatable; of another one NAME=MODEL",
    "WEFT_ALIASES",
  ),
  "chat-template": option(
    text("file"),
    undefined,
    "Jinja file in place of the chat templates of the models' own files",
  ),
  lora: option(
    adapterOptions,
    [],
    "LoRA adapter that clients ask for by the model name NAME, repeatable: NAME=FILE.gguf, with :SCALE (default 1) and, of several models, @MODEL behind it",
  ),
  host: option(text("address"), "127.0.0.1", "address to listen on"),
  port: option(integer("number", 0, 65_535), 9338, "TCP port; 0 takes a free one"),
  preset: option(
    choice("latency", "balanced", "throughput", "strict"),
    "balanced",
    "what matters most, where what it sets is not given: latency (--itl-target 50ms, --prefill-share 0.2, --gather-tokens 0, on a CPU also --prefill-chunk 16 and --flash-attention off), throughput (no target), strict (--deterministic, --speculation off, --no-prefix-first, --no-keep-slots, --prefill-order arrival)",
  ),
  slots: option(
    integer("count", 1, MAX_SLOTS),
    DEFAULT_SLOTS,
    "requests that generate at the same time, per model",
  ),
  context: option(
    integer("tokens", 16, 16_777_216),
    undefined,
    "tokens each slot can hold, prompt and output together (default: from the model and the memory)",
  ),
  threads: option(
    integer("count", 1, MOST_THREADS),
    undefined,
    "compute threads (default: the cores that do mathematics)",
  ),
  "batch-size": option(
    integer("tokens", 1, 65_536),
    undefined,
    "most tokens of one native call (default: chosen at load)",
  ),
  gpu: option(choice("auto", "cuda", "vulkan", "metal", "off"), "auto", "compute device"),
  "gpu-layers": option(integer("count", 0, 10_000), undefined, "layers on the GPU (default: as many as fit)"),
  "flash-attention": option(choice("auto", "on", "off"), "auto", "flash attention"),
  "kv-type": option(
    choice("f16", "q8_0", "q4_0", "f32"),
    "f16",
    "type of the KV cache; smaller ones cost some quality",
  ),
  "prefill-chunk": option(
    integer("tokens", 1, 65_536),
    undefined,
    "grid on which prompts are cut (default: from model and device)",
  ),
  "swa-full": option(
    flag,
    false,
    "keep the cells of all tokens in sliding-window layers too: more memory, and prompts are reused as with other models",
  ),
  "checkpoint-size": option(
    byteSize("size"),
    undefined,
    "bytes of memory that each recurrent, hybrid or sliding-window model may take for checkpoints, to which prompts that begin alike come back, such as 500M; 0 takes none (default: a sixteenth of the free memory, at most 4G)",
  ),
  "spill-size": option(
    byteSize("size"),
    undefined,
    "bytes of computed prompts that each model may keep in files when their slots are needed, to read them back instead of computing them again, such as 2G; 0 keeps none (default: an eighth of the free memory, at most 8G, where there is /dev/shm)",
  ),
  "spill-dir": option(
    text("folder"),
    undefined,
    "folder for these files (default: /dev/shm, which is in memory; where there is none, with --spill-size, the temporary folder)",
  ),
  "pin-prompt": option(
    list("file"),
    [],
    "file of a prompt's beginning that is computed before the model is ready and kept computed for as long as it is served, for all keys, repeatable: the text of a system message, or NAME.json with messages, tools and the other fields of a chat that shape its prompt; of several models, FILE@MODEL",
    "WEFT_PIN_PROMPTS",
  ),
  "itl-target": option(
    time("ms", 1, 60_000),
    undefined,
    "longest wanted time between two tokens of a stream (default: 100ms on a GPU, 400ms on a CPU)",
  ),
  "gather-tokens": option(
    time("ms", 0, 1000),
    20,
    "tokens of a stream that come faster than this are sent together, each in an event of its own, the first and the last at once; 0 sends each at once",
  ),
  "prefill-share": option(
    amount("share", 0, 1),
    undefined,
    "time that a waiting prompt gets at least beside running streams, relative to theirs (default: 0.3)",
  ),
  "prefill-worker": option(
    choice("auto", "off"),
    "auto",
    "on a CPU under Linux, compute long prompts beside running streams in a process of their own, which maps the model a second time, where there is memory for it",
  ),
  plugs: option(
    flag,
    true,
    "close a gap between decoding slots with a throw-away token where that is cheaper than another device pass",
  ),
  "prefix-first": option(
    flag,
    true,
    "let a request whose prompt is computed in part go before earlier ones of its key, where that saves time",
  ),
  "keep-slots": option(
    flag,
    true,
    "keep a slot for a moment behind an answer for who may ask on, though others wait",
  ),
  "prefill-order": option(
    choice("shortest", "arrival"),
    "shortest",
    "of a key's prompts that have slots compute far shorter ones (up to 256 tokens, up to 4096) before earlier ones, past each four times at most, or strictly in the order in which they came",
  ),
  "reserve-slots": option(
    integer("count", 0, MAX_SLOTS - 1),
    0,
    "slots that long prompts leave to short ones, so that these do not wait for long conversations; fewer than --slots",
  ),
  "short-prompt-tokens": option(
    integer("tokens", 2, 16_777_216),
    SHORT_PROMPT_TOKENS,
    "prompts with fewer tokens may have the slots of --reserve-slots; what is computed already counts as well",
  ),
  speculation: option(
    choice("auto", "on", "off"),
    "auto",
    "guess tokens from what was said before and check several at a time, where that saves time",
  ),
  "draft-model": option(
    list("name"),
    [],
    "smaller model of the same vocabulary that guesses for a served one; a name, a .gguf path or hf:org/repo:QUANT; with several models repeatable, as MODEL=NAME",
    "WEFT_DRAFT_MODEL",
  ),
  deterministic: option(flag, false, "reuse cached prefixes only where it cannot change an output"),
  "api-key": option(
    keyList,
    [],
    "key that clients must send, repeatable, or separated by commas in the environment; `name=key` names its owner in logs, `sha256:HEX` stands for a key. Others on this machine can read arguments: prefer the environment",
    "WEFT_API_KEYS",
  ),
  "admin-key": option(
    keyList,
    [],
    "key for /slots, /metrics, /props, /debug and POST /lora-adapters, repeatable, as --api-key; with one, no other key opens them; it also sees /v1/requests of all keys, GET /v1/models and GET /lora-adapters",
    "WEFT_ADMIN_KEYS",
  ),
  "isolate-keys": option(
    choice("auto", "on", "off"),
    "auto",
    "reuse computed prompts only for the key they were computed for; auto is on with several keys",
  ),
  "key-policy": option(
    keyPolicies,
    undefined,
    "share, class and caps of an API key, repeatable: NAME:weight=2:class=low:running=4:queued=20:queued-tokens=50000 with any of these; * is every other key. Classes: high, normal, low, background",
    "WEFT_KEY_POLICIES",
  ),
  "ttft-limit": option(
    time("ms", 1, 3_600_000),
    undefined,
    "time to the first token; requests for which more is expected, by others than their own prompt, are answered 503 at once (default: none)",
  ),
  "aging-quantum": option(
    time("s", 0.001, 86_400),
    30,
    "wait after which requests of a class compete with those of the class above",
  ),
  eviction: option(
    flag,
    true,
    "let a running request wait again, its output kept, for a higher class or a key with less than its share",
  ),
  "insecure-no-auth": option(flag, false, "allow a host other than loopback without a key"),
  "any-model": option(flag, false, "answer requests for any model name with the first model"),
  "strict-params": option(
    flag,
    false,
    "refuse unknown request fields, and results of tools that answer no call, instead of taking them",
  ),
  "request-default": option(
    requestDefaults,
    undefined,
    "what requests that do not say otherwise ask for, repeatable: FIELD=VALUE with temperature, top_p, top_k, min_p, repeat_penalty, presence_penalty, frequency_penalty, seed, max_tokens or enable_thinking (true or false, for templates that have the switch)",
    "WEFT_REQUEST_DEFAULTS",
  ),
  "reasoning-field": option(
    choice("reasoning_content", "reasoning", "both"),
    "reasoning_content",
    "where reasoning goes in answers",
  ),
  "keep-alive": option(
    time("s", 0, 3600),
    120,
    "silence before the first token after which a stream sends a comment (a response: an event, in any silence of 15 s at most); 0 is never",
  ),
  "responses-store": option(
    text("file"),
    undefined,
    "file of JSON lines that keeps stored responses over a restart (default: in memory only)",
  ),
  "stuck-after": option(
    time("s", 1, 86_400),
    DEFAULT_STUCK_AFTER_SECONDS,
    "least silence after which a busy engine is taken for stuck and started again; more on a slow machine",
  ),
  "write-timeout": option(
    time("s", 1, 86_400),
    60,
    "time after which a client that reads nothing of its answer is cut off",
  ),
  "drain-settle": option(
    time("s", 0, 3600),
    0,
    "time at shutdown between the end of readiness and the first refusal, for a load balancer to notice",
  ),
  "drain-timeout": option(time("s", 0, 86_400), 30, "time that running requests get at shutdown"),
  "allowed-hosts": option(list("name"), [], "Host names accepted on loopback beside localhost"),
  "cors-origins": option(list("origin"), [], "browser origins let in beside localhost; * is all"),
  timeline: option(
    integer("steps", 0, MAX_TIMELINE_STEPS),
    2000,
    "engine steps that /debug/timeline can tell of, without any prompt; 0 records nothing",
  ),
  "log-level": option(
    choice("debug", "info", "warn", "error", "silent"),
    "info",
    "least severity that is logged",
  ),
  "log-format": option(
    choice("auto", "json", "text"),
    "auto",
    "form of the log on stderr; auto is text on a terminal",
  ),
  ...limitOptions,
} as const;

export type ServeOptionName = keyof typeof serveOptions;

type ValueOf<S> = S extends OptionSpec<infer T, infer D> ? T | D : never;

/** All options with their values. */
export type ServeValues = { readonly [N in ServeOptionName]: ValueOf<(typeof serveOptions)[N]> };

export const serveOptionNames = Object.keys(serveOptions) as ServeOptionName[];

export function environmentName(name: ServeOptionName): string {
  const spec: OptionSpec<unknown> = serveOptions[name];
  return spec.env ?? `WEFT_${name.replaceAll("-", "_").toUpperCase()}`;
}
