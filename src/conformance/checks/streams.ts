/** Checks of chat streams. */
import { lintChunks } from "../chunk-lint.ts";
import { must, mustBe, mustBeClean } from "../check.ts";
import type { ConformanceCheck } from "../check.ts";
import { chunksOf, textOf } from "../chunks.ts";
import { contentOf, mustBeError } from "../probe.ts";

const QUESTION = { messages: [{ role: "user", content: "Count from 1 to 10." }] };
const lint = (text: string): void => mustBeClean(lintChunks(text, "chat.completion.chunk"));

export const streamChecks: readonly ConformanceCheck[] = [
  {
    name: "stream: frames, identity and order of chunks",
    run: async (probe) => lint(await probe.chatStream()),
  },
  {
    name: "stream: the same text as the whole answer",
    run: async (probe) => {
      const text = await probe.chatStream(QUESTION);
      mustBe("the text of all deltas", textOf(text), contentOf(await probe.chatJson(QUESTION)));
    },
  },
  {
    name: "stream: usage in a last chunk when asked for",
    run: async (probe) => {
      const text = await probe.chatStream({ stream_options: { include_usage: true } });
      lint(text);
      const last = chunksOf(text).at(-1);
      must(Array.isArray(last?.["choices"]) && last["choices"].length === 0, "the last chunk has choices");
    },
  },
  {
    name: "stream: no usage unless asked for",
    run: async (probe) => {
      const chunks = chunksOf(await probe.chatStream());
      must(
        chunks.every(({ usage }) => usage === undefined || usage === null),
        "a chunk with usage",
      );
    },
  },
  {
    name: "stream: n choices",
    run: async (probe) => {
      const text = await probe.chatStream({ n: 2, temperature: 1 });
      lint(text);
      const indices = chunksOf(text).flatMap(({ choices }) =>
        (choices as { index: number }[]).map(({ index }) => index),
      );
      mustBe("the number of choices", new Set(indices).size, 2);
    },
  },
  {
    name: "stream: log probabilities of all tokens",
    run: async (probe) => {
      const text = await probe.chatStream({ logprobs: true });
      lint(text);
      const bytes = chunksOf(text).flatMap(({ choices }) =>
        (choices as { logprobs?: { content?: { bytes: number[] | null }[] | null } | null }[]).flatMap(
          ({ logprobs }) => (logprobs?.content ?? []).flatMap(({ bytes: own }) => own ?? []),
        ),
      );
      mustBe("the text of all bytes", Buffer.from(bytes).toString(), textOf(text));
    },
  },
  {
    name: "stream: stop string",
    run: async (probe) => {
      const whole = contentOf(await probe.chatJson(QUESTION));
      const stop = whole.slice(3, 6);
      must(stop.length === 3, "the answer is too short to be stopped");
      const text = await probe.chatStream({ ...QUESTION, stop: [stop] });
      lint(text);
      mustBe("the text of all deltas", textOf(text), whole.slice(0, whole.indexOf(stop)));
    },
  },
  {
    name: "stream: an invalid request is a plain 400",
    run: async (probe) => void mustBeError(await probe.chat({ stream: true, messages: [] }), 400),
  },
];
