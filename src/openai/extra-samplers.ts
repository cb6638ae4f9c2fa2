/** The samplers that llama.cpp's clients know beyond OpenAI's fields: XTC and DRY. */
import { z } from "zod";
import type { DryParams, SamplingParams } from "../../engine/protocol.ts";
import { MAX_DRY_BREAKER_BYTES, MAX_DRY_BREAKERS } from "../http/limits.ts";
import { checkTextLength, decimal, integer } from "./validation.ts";

export const extraSamplersShape = {
  xtc_probability: decimal(0, 1).optional(),
  xtc_threshold: decimal(0, 1).optional(),
  dry_multiplier: decimal(0, 100).optional(),
  dry_base: decimal(1, 100).optional(),
  dry_allowed_length: integer(0).optional(),
  dry_penalty_last_n: integer(-1).optional(),
  dry_sequence_breakers: z.array(z.string()).max(MAX_DRY_BREAKERS).optional(),
} as const;

const extraSamplersSchema = z.object(extraSamplersShape);
type ExtraSamplerFields = z.infer<typeof extraSamplersSchema>;

/** llama.cpp's. */
const DEFAULTS = {
  xtcThreshold: 0.1,
  base: 1.75,
  allowedLength: 2,
  lastTokens: 64,
  breakers: ["\n", ":", '"', "*"],
} as const;

/** @throws {ApiError} 400 for a breaker that is too long. */
export function readExtraSamplers(
  fields: ExtraSamplerFields,
): Pick<SamplingParams, "xtcProbability" | "xtcThreshold" | "dry"> {
  return {
    xtcProbability: fields.xtc_probability ?? 0,
    xtcThreshold: fields.xtc_threshold ?? DEFAULTS.xtcThreshold,
    dry: readDry(fields),
  };
}

function readDry(fields: ExtraSamplerFields): DryParams | undefined {
  const breakers = fields.dry_sequence_breakers ?? DEFAULTS.breakers;
  for (const [i, breaker] of breakers.entries())
    checkTextLength(Buffer.byteLength(breaker), MAX_DRY_BREAKER_BYTES, `dry_sequence_breakers[${i}]`);
  const multiplier = fields.dry_multiplier ?? 0;
  const lastTokens = fields.dry_penalty_last_n ?? DEFAULTS.lastTokens;
  if (multiplier === 0 || lastTokens === 0) return undefined;
  return {
    multiplier,
    base: fields.dry_base ?? DEFAULTS.base,
    allowedLength: fields.dry_allowed_length ?? DEFAULTS.allowedLength,
    // Clients say all with -1, to the engine 0 means all.
    lastTokens: Math.max(0, lastTokens),
    breakers,
  };
}
