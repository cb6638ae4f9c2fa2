/** Reads a streamed completion event by event, so that a test can stop, look or leave between two of them. */

interface ChunkJson {
  readonly choices: readonly { readonly text?: string; readonly finish_reason: string | null }[];
  readonly usage?: { readonly completion_tokens: number } | null;
}

export interface StreamedText {
  readonly text: string;
  readonly finishReason: string | undefined;
  readonly completionTokens: number | undefined;
  /** Whether `[DONE]` was the last event. */
  readonly done: boolean;
}

/** The data of each event. */
export async function* eventsOf(response: Response): AsyncGenerator<string, void, void> {
  if (response.body === null) throw new Error("A response without a body.");
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of response.body) {
    const parts = (rest + decoder.decode(bytes, { stream: true })).split("\n\n");
    rest = parts.pop() ?? "";
    for (const part of parts) {
      const data = part.split("\n").find((line) => line.startsWith("data: "));
      if (data !== undefined) yield data.slice("data: ".length);
    }
  }
}

/** @throws {Error} For an event that is no completion chunk, such as an error frame. */
export async function readStream(events: AsyncIterable<string>): Promise<StreamedText> {
  let text = "";
  let finishReason: string | undefined;
  let completionTokens: number | undefined;
  let done = false;
  for await (const event of events) {
    if (done) throw new Error(`An event after [DONE]: ${event}`);
    done = event === "[DONE]";
    if (done) continue;
    const { choices, usage } = JSON.parse(event) as Partial<ChunkJson>;
    if (choices === undefined) throw new Error(`No chunk: ${event}`);
    text += choices[0]?.text ?? "";
    finishReason = choices[0]?.finish_reason ?? finishReason;
    completionTokens = usage?.completion_tokens ?? completionTokens;
  }
  return { text, finishReason, completionTokens, done };
}
