import { describe, expect, test } from "vitest";
import { refuseHopeless } from "../../../engine/llama/memory-need.ts";

const GB = 1e9;

describe("a context", () => {
  // 32 layers, 8 key/value heads of 128: 131,072 bytes of keys and values a token, and 48 of its record.
  const shape = { block_count: 32, embedding_length: 4096, attention: { head_count: 32, head_count_kv: 8 } };

  test.each([
    ["fits", { slots: 8, tokens: 8192, kvType: "F16" }, shape, 8.6 * GB],
    ["of smaller cells fits", { slots: 16, tokens: 8192, kvType: "Q8_0" }, shape, 9.2 * GB],
    ["elsewhere needs the records alone", { slots: 8, tokens: 8192, kvType: "F16" }, undefined, 0.01 * GB],
    ["of no size yet", { slots: 8, tokens: 0, kvType: "F32" }, shape, 0],
  ] as const)("that %s is let through", (_name, size, cells, freeBytes) => {
    expect(() => refuseHopeless(size, cells, freeBytes)).not.toThrow();
  });

  test.each([
    [
      { slots: 8, tokens: 8192, kvType: "F16" },
      "8 slots of 8192 tokens need 8.6 GB (131120 bytes a token), and 8.0 GB is all there is.",
    ],
    [
      { slots: 8, tokens: 8192, kvType: "F32" },
      "8 slots of 8192 tokens need 17.2 GB (262192 bytes a token), and 8.0 GB is all there is.",
    ],
    [
      { slots: 256, tokens: 8_388_608, kvType: "F16" },
      "256 slots of 8388608 tokens are 2147483648 cells, and llama.cpp counts no further than 2147483647.",
    ],
  ] as const)("row 92: that cannot fit is refused with the sum: %j", (size, sum) => {
    expect(() => refuseHopeless(size, shape, 8 * GB)).toThrow(
      `Not enough memory for the context: ${sum} Try fewer --slots, a smaller --context or --kv-type q8_0.`,
    );
  });

  test("row 92: counts what each layer has", () => {
    const uneven = { ...shape, attention: { key_length: 100, value_length: 60, head_count_kv: [1, 2, 3] } };
    expect(() => refuseHopeless({ slots: 1, tokens: 1000, kvType: "F16" }, uneven, 0)).toThrow(
      `(${48 + 6 * 160 * 2} bytes a token)`,
    );
  });
});
