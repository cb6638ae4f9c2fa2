/** The span of a request and those of its time in the queue, in prefill and in decode, where an OpenTelemetry SDK listens. */
import { AsyncLocalStorage } from "node:async_hooks";
import { context, propagation, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import type { Attributes, Context, Span, TextMapGetter, Tracer } from "@opentelemetry/api";

export interface TracedRequest {
  readonly method: string;
  /** As it is routed, without query. */
  readonly path: string;
  readonly headers: Headers;
}

/** What is known of a request when it is over; absent values are left out. */
export interface TraceEnd {
  readonly status: number;
  /** The pattern that its path has met. */
  readonly route: string | undefined;
  /** Our own error code. */
  readonly error: string | undefined;
  /** Whether the fault is the server's, also behind a status that says otherwise. */
  readonly failed: boolean;
  readonly attributes: Attributes;
}

/** Of one choice, when its first token is there; durations in ms. */
export interface PromptPhases {
  readonly queueMs: number;
  readonly prefillMs: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
}

/** Found by what starts generations and knows no HTTP. */
const traces = new AsyncLocalStorage<RequestTrace>();

const headersGetter: TextMapGetter<Headers> = {
  get: (headers, name) => headers.get(name) ?? undefined,
  keys: (headers) => [...headers.keys()],
};

/** It gets its tracer from whatever SDK is registered, before or after. */
export function requestTracer(version: string): Tracer {
  return trace.getTracer("weft", version);
}

/** Holds no text of prompts or outputs. All times are of the wall clock, as spans want them. */
export class RequestTrace {
  readonly #tracer: Tracer;
  readonly #span: Span;
  readonly #context: Context;
  readonly #startMs: number;
  readonly #method: string;
  #firstTokenMs: number | undefined;
  #lastTokenMs = 0;
  readonly #finishReasons: string[] = [];
  #ended = false;

  private constructor(tracer: Tracer, { method, path, headers }: TracedRequest) {
    const around = context.active();
    // Where something else has made a span of the HTTP exchange already, that one has read the headers.
    const isWithin = trace.getSpan(around) !== undefined;
    const parent = isWithin ? around : propagation.extract(around, headers, headersGetter);
    this.#tracer = tracer;
    this.#method = method;
    this.#startMs = Date.now();
    this.#span = tracer.startSpan(
      method,
      {
        kind: isWithin ? SpanKind.INTERNAL : SpanKind.SERVER,
        startTime: this.#startMs,
        attributes: { "http.request.method": method, "url.path": path, "url.scheme": "http" },
      },
      parent,
    );
    this.#context = trace.setSpan(parent, this.#span);
  }

  /** Undefined when nobody records it. */
  static begin(tracer: Tracer, request: TracedRequest): RequestTrace | undefined {
    const begun = new RequestTrace(tracer, request);
    return begun.#span.isRecording() ? begun : undefined;
  }

  /** That of the request for which the running code works. */
  static get current(): RequestTrace | undefined {
    return traces.getStore();
  }

  /** For the log, to find one from the other. */
  get traceId(): string {
    return this.#span.spanContext().traceId;
  }

  /** Everything that `body` starts belongs to this request. */
  run<T>(body: () => T): T {
    return context.with(this.#context, () => traces.run(this, body));
  }

  /** A choice has its first token. */
  firstToken({ queueMs, prefillMs, promptTokens, cachedTokens }: PromptPhases): void {
    if (this.#ended) return;
    const nowMs = Date.now();
    const slotMs = Math.max(this.#startMs, nowMs - prefillMs);
    this.#phase("queue", Math.max(this.#startMs, slotMs - queueMs), slotMs, {});
    this.#phase("prefill", slotMs, nowMs, {
      "weft.prompt_tokens": promptTokens,
      "weft.cached_tokens": cachedTokens,
    });
    this.#firstTokenMs ??= nowMs;
    this.#lastTokenMs = nowMs;
  }

  /** A choice is finished. */
  finished(reason: string): void {
    this.#finishReasons.push(reason);
    this.#lastTokenMs = Date.now();
  }

  /** Further calls do nothing; what a request leaves running in the background is not traced. */
  end({ status, route, error, failed, attributes }: TraceEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    const nowMs = Date.now();
    const choices = this.#finishReasons.length;
    if (this.#firstTokenMs !== undefined) {
      // One for all choices, since they are decoded together.
      this.#phase("decode", this.#firstTokenMs, choices > 0 ? this.#lastTokenMs : nowMs, {});
    }
    if (route !== undefined)
      this.#span.updateName(`${this.#method} ${route}`).setAttribute("http.route", route);
    this.#span.setAttribute("http.response.status_code", status);
    if (choices > 0) this.#span.setAttribute("gen_ai.response.finish_reasons", this.#finishReasons);
    if (error !== undefined) this.#span.setAttribute("error.type", error);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined) this.#span.setAttribute(name, value);
    }
    if (failed) this.#span.setStatus({ code: SpanStatusCode.ERROR });
    this.#span.end(nowMs);
  }

  #phase(name: string, startTime: number, endTime: number, attributes: Attributes): void {
    this.#tracer.startSpan(name, { startTime, attributes }, this.#context).end(endTime);
  }
}
