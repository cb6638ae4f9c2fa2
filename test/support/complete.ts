/** Asks the built server for a greedy completion, and reads how much of its prompt was computed before. */
import { expect } from "vitest";

export interface Completion {
  readonly text: string;
  readonly promptTokens: number;
  readonly cachedTokens: number;
}

/**
 * @param body Its model, prompt and number of tokens, and what else is to be asked for.
 * @param key Empty where the server knows none.
 */
export async function complete(url: string, body: object, key: string): Promise<Completion> {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: JSON.stringify({ temperature: 0, ignore_eos: true, ...body }),
  });
  expect(response.status).toBe(200);
  const { choices, usage } = (await response.json()) as {
    choices: { text: string }[];
    usage: { prompt_tokens: number; prompt_tokens_details?: { cached_tokens: number } };
  };
  return {
    text: choices[0]?.text ?? "",
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
  };
}
