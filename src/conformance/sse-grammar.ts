/** Takes the raw text of an event stream apart and says where it is not what every client can read. */

export interface SseEvent {
  /** The `event:` line; undefined without one. */
  readonly event: string | undefined;
  /** The `data:` line. */
  readonly data: string;
}

export interface SseReading {
  readonly events: readonly SseEvent[];
  /** Comments before the first event. */
  readonly comments: number;
  /** What breaks some client, one sentence each. */
  readonly problems: readonly string[];
}

/**
 * Stricter than the standard: one `data: ` line an event, line feeds only, no `id:` or `retry:`, comments before
 * the first event only. Each of the forms left out makes some client in use lose text or raise an error.
 */
export function readSse(text: string): SseReading {
  const problems: string[] = [];
  const events: SseEvent[] = [];
  let comments = 0;
  if (text.includes("\r")) problems.push("a carriage return in the stream");
  const blocks = text.split("\n\n");
  if (blocks.pop() !== "") problems.push("the last event does not end with an empty line");
  for (const block of blocks) {
    if (/^:[^\n]*$/.test(block)) {
      if (events.length > 0) problems.push("a comment between events");
      comments++;
      continue;
    }
    const match = /^(?:event: ([^\n]+)\n)?data: ([^\n]+)$/.exec(block);
    if (match === null) problems.push(`a frame that is not one data line: ${shorten(block)}`);
    else events.push({ event: match[1], data: match[2] ?? "" });
  }
  return { events, comments, problems };
}

/** A text for a message: short, on one line. */
export function shorten(text: string): string {
  const line = JSON.stringify(text);
  return line.length <= 120 ? line : `${line.slice(0, 117)}...`;
}
