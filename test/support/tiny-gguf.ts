/** Writes GGUF files of a few kilobytes with made-up weights, for kinds of models that no small real file has. */
import { writeFileSync } from "node:fs";

type Value = string | number | boolean | readonly string[] | readonly number[];

/** Float metadata, since a whole number says nothing of its type. */
interface Float {
  readonly float: number | readonly number[];
}

interface Tensor {
  readonly name: string;
  /** The fastest dimension first. */
  readonly shape: readonly number[];
  /** 1 for every value instead of made-up ones, or less than 0. */
  readonly ones?: boolean;
  readonly negative?: boolean;
}

const ALIGNMENT = 32;
const WORDS = ["the", "cat", "dog", "sat", "on", "mat", "paris", "france", "is", "capital"];
const LETTERS = "a b c d e f g h i j k l m n o p q r s t u v w x y z".split(" ");

/** An encoder of two layers and 32 dimensions over 64 positions, which pools its tokens or scores pairs. */
export function writeTinyEncoder(path: string, kind: "mean" | "rank"): void {
  const width = 32;
  const inner = 64;
  const positions = 64;
  const vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].concat(
    [...WORDS, ...LETTERS].map((word) => `\u2581${word}`),
    LETTERS,
  );
  const linear = (name: string, from: number, to: number): Tensor[] => [
    { name: `${name}.weight`, shape: [from, to] },
    { name: `${name}.bias`, shape: [to] },
  ];
  const norm = (name: string): Tensor[] => [
    { name: `${name}.weight`, shape: [width], ones: true },
    { name: `${name}.bias`, shape: [width] },
  ];
  const layer = (i: number): Tensor[] => [
    ...["attn_q", "attn_k", "attn_v", "attn_output"].flatMap((name) =>
      linear(`blk.${i}.${name}`, width, width),
    ),
    ...norm(`blk.${i}.attn_output_norm`),
    ...linear(`blk.${i}.ffn_up`, width, inner),
    ...linear(`blk.${i}.ffn_down`, inner, width),
    ...norm(`blk.${i}.layer_output_norm`),
  ];
  const head = [...linear("cls", width, width), ...linear("cls.output", width, 1)];
  writeGguf(
    path,
    {
      "general.architecture": "bert",
      "general.name": `tiny encoder, ${kind}`,
      "bert.context_length": positions,
      "bert.embedding_length": width,
      "bert.feed_forward_length": inner,
      "bert.block_count": 2,
      "bert.attention.head_count": 4,
      "bert.attention.layer_norm_epsilon": { float: 1e-12 },
      "bert.attention.causal": false,
      "bert.pooling_type": kind === "mean" ? 1 : 4,
      "tokenizer.ggml.model": "bert",
      "tokenizer.ggml.tokens": vocabulary,
      "tokenizer.ggml.token_type": vocabulary.map((_, token) => (token < 5 ? 3 : 1)),
      "tokenizer.ggml.token_type_count": 2,
      "tokenizer.ggml.padding_token_id": 0,
      "tokenizer.ggml.unknown_token_id": 1,
      "tokenizer.ggml.bos_token_id": 2,
      "tokenizer.ggml.cls_token_id": 2,
      "tokenizer.ggml.seperator_token_id": 3,
      "tokenizer.ggml.eos_token_id": 3,
      "tokenizer.ggml.mask_token_id": 4,
    },
    [
      { name: "token_embd.weight", shape: [width, vocabulary.length] },
      { name: "token_types.weight", shape: [width, 2] },
      { name: "position_embd.weight", shape: [width, positions] },
      ...norm("token_embd_norm"),
      ...layer(0),
      ...layer(1),
      ...(kind === "rank" ? head : []),
    ],
  );
}

/**
 * A LoRA adapter of rank 2.
 * @param weights Shapes of the weights that it changes, by their names.
 * @param metadata In place of a LoRA adapter's for llama models, or beside it.
 */
export function writeTinyAdapter(
  path: string,
  weights: Readonly<Record<string, readonly [from: number, to: number]>>,
  metadata: Readonly<Record<string, Value>> = {},
): void {
  const halves = Object.entries(weights).flatMap(([name, [from, to]]): Tensor[] => [
    { name: `${name}.lora_a`, shape: [from, 2] },
    { name: `${name}.lora_b`, shape: [2, to] },
  ]);
  writeGguf(
    path,
    {
      "general.architecture": "llama",
      "general.type": "adapter",
      "adapter.type": "lora",
      "adapter.lora.alpha": { float: 2 },
      ...metadata,
    },
    halves,
  );
}

/** Kinds of memory that cannot drop its last cells at any time: a state, a window, and a state beside attention. */
export const TINY_DECODERS = ["mamba", "gemma3", "lfm2"] as const;
export type TinyDecoder = (typeof TINY_DECODERS)[number];

/** Of a gemma3 written here. */
export const TINY_WINDOW = 32;

/** A model of two layers and, by default, 32 dimensions that writes bytes without sense, over 4096 positions. */
export function writeTinyDecoder(
  path: string,
  kind: TinyDecoder,
  { windowTokens = TINY_WINDOW, width = 32 } = {},
): void {
  const vocabulary = ["<unk>", "<s>", "</s>"].concat(
    Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
    ["\u2581", ...LETTERS],
  );
  const weight = (name: string, ...shape: readonly number[]): Tensor => ({ name: `${name}.weight`, shape });
  const norm = (name: string, size = width): Tensor => ({ ...weight(name, size), ones: true });
  const gated = (block: string): Tensor[] => [
    norm(`${block}.ffn_norm`),
    weight(`${block}.ffn_gate`, width, 64),
    weight(`${block}.ffn_up`, width, 64),
    weight(`${block}.ffn_down`, 64, width),
  ];
  const attention = (block: string, head: number): Tensor[] => [
    norm(`${block}.attn_norm`),
    weight(`${block}.attn_q`, width, 2 * head),
    weight(`${block}.attn_k`, width, head),
    weight(`${block}.attn_v`, width, head),
    weight(`${block}.attn_output`, 2 * head, width),
    norm(`${block}.attn_q_norm`, head),
    norm(`${block}.attn_k_norm`, head),
  ];
  const blocks: Readonly<Record<TinyDecoder, (block: string, i: number) => Tensor[]>> = {
    mamba: (block) => [
      norm(`${block}.attn_norm`),
      weight(`${block}.ssm_in`, width, 4 * width),
      weight(`${block}.ssm_conv1d`, 4, 2 * width),
      { name: `${block}.ssm_conv1d.bias`, shape: [2 * width] },
      weight(`${block}.ssm_x`, 2 * width, 2 + 2 * 16),
      weight(`${block}.ssm_dt`, 2, 2 * width),
      { name: `${block}.ssm_dt.bias`, shape: [2 * width] },
      { name: `${block}.ssm_a`, shape: [16, 2 * width], negative: true },
      { name: `${block}.ssm_d`, shape: [2 * width] },
      weight(`${block}.ssm_out`, 2 * width, width),
    ],
    gemma3: (block) => [
      ...attention(block, 16),
      norm(`${block}.post_attention_norm`),
      ...gated(block),
      norm(`${block}.post_ffw_norm`),
    ],
    lfm2: (block, i) => [
      ...gated(block),
      ...(i === 1
        ? attention(block, width / 2)
        : [
            norm(`${block}.attn_norm`),
            weight(`${block}.shortconv.conv`, 3, width),
            weight(`${block}.shortconv.in_proj`, width, 3 * width),
            weight(`${block}.shortconv.out_proj`, width, width),
          ]),
    ],
  };
  const own: Readonly<Record<TinyDecoder, Readonly<Record<string, Value | Float>>>> = {
    mamba: {
      "mamba.ssm.conv_kernel": 4,
      "mamba.ssm.inner_size": 2 * width,
      "mamba.ssm.state_size": 16,
      "mamba.ssm.time_step_rank": 2,
      "mamba.feed_forward_length": 0,
      "mamba.attention.head_count": 0,
    },
    gemma3: {
      "gemma3.feed_forward_length": 64,
      "gemma3.attention.head_count": 2,
      "gemma3.attention.head_count_kv": 1,
      "gemma3.attention.key_length": 16,
      "gemma3.attention.value_length": 16,
      "gemma3.attention.sliding_window": windowTokens,
      // One layer with a window, one without.
      "gemma3.attention.sliding_window_pattern": 2,
    },
    lfm2: {
      "lfm2.feed_forward_length": 64,
      "lfm2.attention.head_count": 2,
      "lfm2.attention.head_count_kv": [0, 1],
      "lfm2.shortconv.l_cache": 3,
      "lfm2.vocab_size": vocabulary.length,
    },
  };
  writeGguf(
    path,
    {
      "general.architecture": kind,
      "general.name": `tiny ${kind}`,
      [`${kind}.context_length`]: 4096,
      [`${kind}.embedding_length`]: width,
      [`${kind}.block_count`]: 2,
      [`${kind}.attention.layer_norm_rms_epsilon`]: { float: 1e-6 },
      ...own[kind],
      "tokenizer.ggml.model": "llama",
      "tokenizer.ggml.tokens": vocabulary,
      "tokenizer.ggml.scores": { float: vocabulary.map(() => 0) },
      "tokenizer.ggml.token_type": vocabulary.map((_, token) => (token < 3 ? 3 : token < 259 ? 6 : 1)),
      "tokenizer.ggml.unknown_token_id": 0,
      "tokenizer.ggml.bos_token_id": 1,
      "tokenizer.ggml.eos_token_id": 2,
      "tokenizer.ggml.add_bos_token": true,
    },
    [
      weight("token_embd", width, vocabulary.length),
      norm(kind === "lfm2" ? "token_embd_norm" : "output_norm"),
      ...[0, 1].flatMap((i) => blocks[kind](`blk.${i}`, i)),
    ],
  );
}

function writeGguf(
  path: string,
  metadata: Readonly<Record<string, Value | Float>>,
  tensors: readonly Tensor[],
): void {
  const entries = Object.entries(metadata);
  const data: Buffer[] = [];
  let offset = 0;
  const infos = tensors.map(({ name, shape, ones, negative }, i) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const bytes = Buffer.alloc(Math.ceil((count * 4) / ALIGNMENT) * ALIGNMENT);
    for (let at = 0; at < count; at++) {
      const value = ones === true ? 1 : madeUp(i, at);
      bytes.writeFloatLE(negative === true ? -Math.abs(value) - 0.1 : value, at * 4);
    }
    const info = [text(name), u32(shape.length), ...shape.map((size) => u64(size)), u32(0), u64(offset)];
    data.push(bytes);
    offset += bytes.length;
    return Buffer.concat(info);
  });
  const header = Buffer.concat([
    Buffer.from("GGUF"),
    u32(3),
    u64(tensors.length),
    u64(entries.length),
    ...entries.map(([key, value]) => Buffer.concat([text(key), typed(value)])),
    ...infos,
  ]);
  const padding = Buffer.alloc((ALIGNMENT - (header.length % ALIGNMENT)) % ALIGNMENT);
  writeFileSync(path, Buffer.concat([header, padding, ...data]));
}

/** A value from -0.5 to 0.5 that is always the same. */
function madeUp(tensor: number, at: number): number {
  let h = Math.imul(tensor * 65_537 + at + 1, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  return ((h ^ (h >>> 13)) >>> 0) / 2 ** 32 - 0.5;
}

function typed(value: Value | Float): Buffer {
  if (typeof value === "string") return Buffer.concat([u32(8), text(value)]);
  if (typeof value === "number") return Buffer.concat([u32(4), u32(value)]);
  if (typeof value === "boolean") return Buffer.concat([u32(7), Buffer.of(value ? 1 : 0)]);
  if ("float" in value) {
    const { float } = value;
    if (typeof float === "number") return Buffer.concat([u32(6), floats(float)]);
    return Buffer.concat([u32(9), u32(6), u64(float.length), floats(...float)]);
  }
  const items = value.map((item) => (typeof item === "string" ? text(item) : u32(item)));
  return Buffer.concat([u32(9), u32(typeof value[0] === "string" ? 8 : 5), u64(value.length), ...items]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function floats(...values: readonly number[]): Buffer {
  return Buffer.from(Float32Array.from(values).buffer);
}

function u32(value: number): Buffer {
  return Buffer.from(Uint32Array.of(value).buffer);
}

function u64(value: number): Buffer {
  return Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
}
