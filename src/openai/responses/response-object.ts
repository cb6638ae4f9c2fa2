/** The response object: what it repeats of its request, and what came of it. */
import type { OutputItem } from "./items.ts";
import type { ResponseUsageJson } from "./output-events.ts";

export type ResponseStatus = "queued" | "in_progress" | "completed" | "incomplete" | "failed" | "cancelled";

/** What is known from the start and never changes. */
export interface ResponseHead {
  readonly id: string;
  /** Unix seconds. */
  readonly createdAt: number;
  readonly background: boolean;
  /** Request fields as the response object repeats them. */
  readonly echo: Readonly<Record<string, unknown>>;
  readonly style: OutputStyle;
}

export interface OutputStyle {
  /** Thinking is shown as a summary instead of as itself. */
  readonly summary: boolean;
  /** Reasoning items carry `encrypted_content`. */
  readonly packed: boolean;
}

/** What changes while a response is made. */
export interface ResponseState {
  readonly status: ResponseStatus;
  readonly completedAt: number | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly incompleteReason: "max_output_tokens" | undefined;
  readonly output: readonly OutputItem[];
  readonly usage: ResponseUsageJson | null;
}

export interface ResponseJson {
  readonly id: string;
  readonly object: "response";
  readonly status: ResponseStatus;
  readonly output: readonly OutputItem[];
  readonly [key: string]: unknown;
}

export function responseJson(head: ResponseHead, state: ResponseState): ResponseJson {
  const { status, completedAt, error, incompleteReason, output, usage } = state;
  return {
    id: head.id,
    object: "response",
    created_at: head.createdAt,
    status,
    background: head.background,
    completed_at: completedAt,
    error,
    incomplete_details: incompleteReason === undefined ? null : { reason: incompleteReason },
    ...head.echo,
    output,
    usage,
  };
}
