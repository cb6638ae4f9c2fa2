/** Stands in for an OpenTelemetry SDK: remembers every span, and reads `traceparent`. */
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, TraceFlags } from "@opentelemetry/api";
import type {
  Attributes,
  AttributeValue,
  Context,
  Span,
  SpanContext,
  SpanOptions,
  SpanStatus,
  TextMapGetter,
  TextMapPropagator,
  TimeInput,
  Tracer,
  TracerProvider,
} from "@opentelemetry/api";

const TRACE_PARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/;

export class FakeSpan implements Span {
  readonly startMs: number;
  readonly kind: SpanKind;
  readonly attributes: Attributes;
  status: SpanStatus = { code: SpanStatusCode.UNSET };
  endMs: number | undefined;
  name: string;
  readonly #context: SpanContext;
  readonly parent: SpanContext | undefined;

  constructor(name: string, options: SpanOptions, parent: SpanContext | undefined, serial: number) {
    this.name = name;
    this.kind = options.kind ?? SpanKind.INTERNAL;
    this.attributes = { ...options.attributes };
    this.startMs = Number(options.startTime);
    this.parent = parent;
    const hex = serial.toString(16);
    const traceId = parent?.traceId ?? hex.padStart(32, "0");
    this.#context = { traceId, spanId: hex.padStart(16, "0"), traceFlags: TraceFlags.SAMPLED };
  }

  spanContext(): SpanContext {
    return this.#context;
  }

  setAttribute(key: string, value: AttributeValue): this {
    this.attributes[key] = value;
    return this;
  }

  setAttributes(attributes: Attributes): this {
    Object.assign(this.attributes, attributes);
    return this;
  }

  addEvent(): this {
    return this;
  }

  addLink(): this {
    return this;
  }

  addLinks(): this {
    return this;
  }

  setStatus(status: SpanStatus): this {
    this.status = status;
    return this;
  }

  updateName(name: string): this {
    this.name = name;
    return this;
  }

  end(endTime?: TimeInput): void {
    if (this.endMs !== undefined) throw new Error(`The span ${this.name} ends twice.`);
    this.endMs = Number(endTime);
  }

  isRecording(): boolean {
    return this.endMs === undefined;
  }

  recordException(): void {}
}

export class FakeTracing implements TracerProvider, TextMapPropagator {
  readonly spans: FakeSpan[] = [];

  getTracer(): Tracer {
    const startSpan = (name: string, options: SpanOptions = {}, parent: Context = ROOT_CONTEXT): Span => {
      const span = new FakeSpan(name, options, trace.getSpanContext(parent), this.spans.length + 1);
      this.spans.push(span);
      return span;
    };
    return {
      startSpan,
      startActiveSpan: () => {
        throw new Error("Spans are started with their parent.");
      },
    };
  }

  inject(): void {}

  extract(context: Context, carrier: unknown, getter: TextMapGetter): Context {
    const [, traceId, spanId] = TRACE_PARENT.exec(String(getter.get(carrier, "traceparent"))) ?? [];
    if (traceId === undefined || spanId === undefined) return context;
    return trace.setSpanContext(context, {
      traceId,
      spanId,
      traceFlags: TraceFlags.SAMPLED,
      isRemote: true,
    });
  }

  fields(): string[] {
    return ["traceparent"];
  }
}
