/** Upper bounds of the histograms' buckets, in seconds. */

/** From a cached prompt on a GPU to a long one on a CPU. */
export const LATENCY_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 120, 300,
] as const;

/** From a small model on a GPU to a stream that stutters. */
export const ITL_SECONDS = [
  0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5,
] as const;

/** Of what was expected: from a third to three times. */
export const RATIOS = [0.33, 0.5, 0.67, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 3] as const;

/** Slots that decode together, up to llama.cpp's bound. */
export const SEQUENCES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256] as const;

/** Device passes of a call; one where its slots stand side by side. */
export const PASSES = [1, 2, 3, 4, 6, 8, 16, 32] as const;

/** Of what could be best, 1. */
export const QUALITIES = [0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1] as const;

/** Prompt tokens of a step. */
export const PROMPT_TOKENS = [1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096] as const;

/** From planning, which takes microseconds, to a long prompt chunk on a CPU. */
export const STEP_SECONDS = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
] as const;
