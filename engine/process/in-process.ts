/** An engine in this very process behind the same port: for tests, and for embedding one in another program. */
import { setImmediate } from "node:timers";
import type { EngineCommand, EngineEvent, EngineExit, EnginePort } from "../protocol.ts";
import type { EngineFactory, HostedEngine } from "./serve.ts";

/**
 * Hosts an engine with the behaviour of `forkEngine`: messages are copied, and arrive later and in order. What
 * it cannot give is safety: native code that dies here takes this process with it.
 */
export function hostEngine(createEngine: EngineFactory): EnginePort {
  return new InProcessEngine(createEngine);
}

class InProcessEngine implements EnginePort {
  readonly exited: Promise<EngineExit>;
  readonly #engine: HostedEngine;
  #receiver: ((event: EngineEvent) => void) | undefined;
  #settle: (exit: EngineExit) => void = () => undefined;
  #gone = false;
  #endRequested = false;

  constructor(createEngine: EngineFactory) {
    this.exited = new Promise((resolve) => (this.#settle = resolve));
    this.#engine = createEngine((event) => {
      const copy = structuredClone(event);
      setImmediate(() => {
        if (!this.#gone) this.#receiver?.(copy);
      });
    });
    this.#engine.stopped.then(
      // Behind the events that are already on their way.
      () => setImmediate(() => this.#end("exit code 0")),
      (cause: unknown) => this.#end(describe(cause)),
    );
  }

  send(command: EngineCommand): void {
    if (command.type === "stop") this.#endRequested = true;
    const copy = structuredClone(command);
    setImmediate(() => {
      if (this.#gone) return;
      try {
        this.#engine.receive(copy);
      } catch (cause) {
        this.#end(describe(cause));
      }
    });
  }

  onEvent(receiver: (event: EngineEvent) => void): void {
    this.#receiver = receiver;
  }

  kill(): void {
    if (this.#gone) return;
    this.#endRequested = true;
    this.#end("signal SIGKILL");
    // No process ends here that would free what the engine holds.
    setImmediate(() => this.#engine.receive({ type: "stop" }));
  }

  #end(detail: string): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#settle({ unexpected: !this.#endRequested, detail });
  }
}

function describe(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
