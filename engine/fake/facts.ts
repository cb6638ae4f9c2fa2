/** What the fake model says of itself: its sizes and its vocabulary. */
import { TokenAttribute } from "../token-attribute.ts";
import type { ModelFacts } from "../protocol.ts";

/** Bytes 0-255 are tokens of their own; after them come the control tokens. */
export const FAKE_BYTES = 256;
export const FAKE_START = 256;
export const FAKE_END = 257;
export const FAKE_DIMENSIONS = 8;
export const CONTROL_NAMES = ["<|start|>", "<|end|>"];

type FakeSizes = Required<
  Pick<
    ModelFacts,
    "slots" | "contextTokens" | "prefillChunk" | "batchTokens" | "itlTargetMs" | "adapters" | "threads"
  >
>;

export function fakeFacts(sizes: FakeSizes): Omit<ModelFacts, "loadMs"> {
  const names = CONTROL_NAMES.map((name) => new TextEncoder().encode(name));
  const pieces = [...Array.from({ length: FAKE_BYTES }, (_, byte) => Uint8Array.of(byte)), ...names];
  const tokenOffsets = new Uint32Array(pieces.length + 1);
  pieces.forEach((piece, token) => (tokenOffsets[token + 1] = (tokenOffsets[token] ?? 0) + piece.length));
  return {
    ...sizes,
    name: "fake",
    architecture: "fake",
    parameters: 0,
    sizeBytes: 0,
    embeddingLength: 0,
    trainContextTokens: sizes.contextTokens,
    device: "none",
    gpu: "off",
    gpuLayers: 0,
    flashAttention: false,
    contextBytes: 0,
    fingerprint: "0000000000",
    chatTemplate:
      "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}",
    vocabSize: pieces.length,
    tokenBytes: Uint8Array.from(pieces.flatMap((piece) => [...piece])),
    tokenOffsets,
    tokenAttributes: Uint16Array.from(pieces, (_, token) =>
      token < FAKE_BYTES ? TokenAttribute.normal : TokenAttribute.control,
    ),
    endTokens: [FAKE_END],
    bosToken: undefined,
    eosToken: FAKE_END,
    addBos: false,
    fim: undefined,
    generates: true,
    embeddings: { dimensions: FAKE_DIMENSIONS, pooling: "last", contextTokens: sizes.contextTokens },
    ranking: true,
  };
}

/** A token's result depends on nothing but the tokens before it. */
export const EXACT = { anywhere: true, aloneTokens: Infinity, withAdapters: true, cells: true };
