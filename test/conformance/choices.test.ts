/** Several choices of one prompt. */
import { expect, test } from "vitest";
import { asking, chat, chatStream, found } from "./harness.ts";

const STORY = asking("Tell me a story about a fox.");

test("T36 n choices differ, have the indices 0 to n-1, and the prompt is counted once", async () => {
  const answer = await chat({ ...STORY, n: 3, temperature: 1, seed: 1, max_tokens: 30 });
  expect(answer.choices.map(({ index }) => index)).toEqual([0, 1, 2]);
  expect(new Set(answer.choices.map(({ message }) => message.content)).size).toBe(3);
  const alone = await chat({ ...STORY, max_tokens: 1 });
  expect(answer.usage?.prompt_tokens).toBe(alone.usage?.prompt_tokens);
  expect(answer.usage?.completion_tokens).toBeLessThanOrEqual(90);
  expect(answer.usage?.completion_tokens).toEqual(found(90, expect.any(Number)));
  const { chunks } = await chatStream({
    ...STORY,
    n: 3,
    temperature: 1,
    seed: 1,
    max_tokens: 30,
    stream_options: { include_usage: true },
  });
  const streamed = [0, 1, 2].map((index) =>
    chunks
      .flatMap(({ choices }) => choices)
      .filter((choice) => choice.index === index)
      .map(({ delta }) => delta.content ?? "")
      .join(""),
  );
  expect(streamed).toEqual(answer.choices.map(({ message }) => message.content));
  expect(chunks.at(-1)?.usage).toMatchObject({
    completion_tokens: answer.usage?.completion_tokens,
  });
});
