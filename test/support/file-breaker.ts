/** Model files that are broken in one or two places, by a seed: in counts, types, names, offsets, vocabularies and weights. */

const EXTREMES = [
  0n,
  1n,
  2n,
  7n,
  255n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 62n,
  2n ** 63n,
  2n ** 64n - 1n,
];
/** The keys of a header; what stands behind one is its type and its value. */
const KEY = /(?:general|llama|tokenizer|adapter|split)\.[a-z_.]+/g;
/** The names of tensors; behind one stand its dimensions, its type and its offset. */
const TENSOR =
  /(?:blk\.\d+|token_embd|output|output_norm)[a-z_.]*\.(?:weight|bias|lora_[ab])(?:\.lora_[ab])?/g;
/** Further than any header of the files that are broken reaches. */
const HEADER_BYTES = 200_000;

export function brokenFile(whole: Uint8Array, random: () => number): Uint8Array {
  const below = (bound: number): number => Math.floor(random() * bound);
  let file = Buffer.from(whole);
  const header = file.toString("latin1", 0, HEADER_BYTES);
  const ends = (names: RegExp): number[] =>
    Array.from(header.matchAll(names), ({ index, 0: name }) => index + name.length);
  const near = (places: readonly number[], reach: number): number =>
    (places[below(places.length)] ?? 0) + below(reach);
  const [keys, tensors] = [ends(KEY), ends(TENSOR)];
  const dataStart = tensors.at(-1) ?? 0;
  const places = [
    () => near(keys, 16),
    () => near(keys, 16),
    () => near(tensors, 40),
    () => near(tensors, 40),
    () => below(24),
    // The vocabulary is most of what lies before the weights.
    () => below(dataStart),
    () => below(dataStart),
    () => dataStart + below(file.length - dataStart),
    () => dataStart + below(file.length - dataStart),
  ];
  for (let edits = random() < 0.2 ? 2 : 1; edits > 0; edits--) {
    const at = Math.min(places[below(places.length)]?.() ?? 0, file.length - 8);
    switch (below(6)) {
      case 0:
        file.writeUInt8(below(256), at);
        break;
      case 1:
        file.writeUInt32LE(below(14), at);
        break;
      case 2:
        file.writeUInt32LE(Number(BigInt.asUintN(32, EXTREMES[below(EXTREMES.length)] ?? 0n)), at);
        break;
      case 3:
        file.writeBigUInt64LE(EXTREMES[below(EXTREMES.length)] ?? 0n, at);
        break;
      case 4:
        file.copy(file, at, below(file.length - 64), below(file.length));
        break;
      default:
        file =
          random() < 0.5
            ? file.subarray(0, Math.max(1, at))
            : file.fill(0, at, Math.min(file.length, at + below(4096)));
    }
    if (file.length < 8) break;
  }
  return file;
}
