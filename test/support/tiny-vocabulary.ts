/** A vocabulary small enough to be read: a few control tokens, some words, and every byte. */
import { TokenAttribute } from "../../engine/token-attribute.ts";
import type { ModelFacts, TokenId } from "../../engine/protocol.ts";

export const BOS: TokenId = 0;
export const EOS: TokenId = 1;

const CONTROL = ["<s>", "</s>"];
const WORDS = ["Hel", "lo", " world", "<think>", "</think>", "END"];
const FIRST_BYTE = CONTROL.length + WORDS.length;

export const VOCABULARY_SIZE = FIRST_BYTE + 256;

/** The ids of a text: words where they fit, else bytes. */
export function idsOf(text: string): TokenId[] {
  const ids: TokenId[] = [];
  for (let rest = text; rest !== "";) {
    const word = WORDS.findIndex((candidate) => rest.startsWith(candidate));
    const piece = word === -1 ? String.fromCodePoint(rest.codePointAt(0) ?? 0) : (WORDS[word] ?? "");
    if (word === -1) ids.push(...byteIds(piece));
    else ids.push(CONTROL.length + word);
    rest = rest.slice(piece.length);
  }
  return ids;
}

/** One token for each byte of the text. */
export function byteIds(text: string): TokenId[] {
  return Array.from(Buffer.from(text), (byte) => FIRST_BYTE + byte);
}

export function tinyFacts(changes: Partial<ModelFacts> = {}): ModelFacts {
  const pieces = [
    ...[...CONTROL, ...WORDS].map((text) => Buffer.from(text)),
    ...Array.from({ length: 256 }, (_, byte) => Buffer.from([byte])),
  ];
  const offsets = new Uint32Array(pieces.length + 1);
  for (const [i, piece] of pieces.entries()) offsets[i + 1] = (offsets[i] ?? 0) + piece.length;
  const attribute = (i: number): number =>
    i < CONTROL.length ? TokenAttribute.control : TokenAttribute.normal;
  return {
    name: "tiny",
    architecture: "test",
    parameters: 1000,
    sizeBytes: 4000,
    embeddingLength: 8,
    trainContextTokens: 512,
    contextTokens: 256,
    slots: 2,
    batchTokens: 64,
    prefillChunk: 32,
    itlTargetMs: 100,
    threads: 1,
    device: "nothing",
    gpu: "off",
    gpuLayers: 0,
    flashAttention: false,
    contextBytes: 0,
    loadMs: 1,
    fingerprint: "0123456789",
    chatTemplate: undefined,
    vocabSize: pieces.length,
    tokenBytes: new Uint8Array(Buffer.concat(pieces)),
    tokenOffsets: offsets,
    tokenAttributes: Uint16Array.from(pieces.keys(), attribute),
    endTokens: [EOS],
    bosToken: BOS,
    eosToken: EOS,
    addBos: true,
    fim: undefined,
    embeddings: undefined,
    ranking: false,
    generates: true,
    ...changes,
  };
}
