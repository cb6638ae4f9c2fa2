/**
 * Makes an engine fail on purpose, so that tests see what becomes of its requests. Only in a process that was
 * started with `WEFT_FAULTS=1`.
 */
import { setTimeout as delay } from "node:timers/promises";
import { EngineError } from "./errors.ts";
import type { Backend, BackendLoader, BatchRun, Sampler } from "./backend.ts";
import type { EngineEvent, Fault, Garbling, GenerationParams } from "./protocol.ts";

/** What a process that crashes in native code ends by. */
const CRASH = "SIGSEGV";

const never = (): Promise<never> => new Promise(() => undefined);

export class FaultInjector {
  readonly #faults: Fault[] = [];
  #calls = 0;
  #steps = 0;

  inject(fault: Fault): void {
    this.#faults.push(fault);
    this.#calls = 0;
    this.#steps = 0;
  }

  /** What is sent, with the faults in what is sent. */
  wrapEmit(emit: (event: EngineEvent) => void): (event: EngineEvent) => void {
    return (event) => {
      this.#steps += event.type === "step" ? 1 : 0;
      const due = this.#faults.find((fault) => fault.does === "garble" && fault.step === this.#steps);
      if (event.type !== "step" || due?.does !== "garble") return emit(event);
      emit(garbled(event, due.how) as EngineEvent);
    };
  }

  /** The loader with the faults in what it loads. */
  wrap(load: BackendLoader): BackendLoader {
    return async (options, onProgress) => {
      const backend = await load(options, onProgress);
      const [run, createSampler] = [backend.run.bind(backend), backend.createSampler.bind(backend)];
      backend.run = (...call) => this.#run(() => run(...call));
      backend.createSampler = (params, prompt) => this.#sampler(createSampler(params, prompt), params);
      return backend;
    };
  }

  #run(run: () => BatchRun): ReturnType<Backend["run"]> {
    this.#calls += 1;
    const due = this.#faults.filter((fault) => "call" in fault && fault.call === this.#calls);
    const slow = this.#faults.find((fault) => fault.does === "slow");
    for (const { does } of due) {
      if (does === "die") process.kill(process.pid, CRASH);
      if (does === "hoard") hoard();
      if (does === "hang") return { logits: [], done: never() };
      if (does === "fail") {
        return {
          logits: [],
          done: Promise.reject(new EngineError("decode_failed", "A call failed on purpose.")),
        };
      }
    }
    const { logits, done } = run();
    return { logits, done: slow?.does === "slow" ? done.then(() => delay(slow.ms)) : done };
  }

  #sampler(sampler: Sampler, { sampling }: GenerationParams): Sampler {
    return {
      dispose: () => sampler.dispose(),
      sample: async (logits, position, output) => {
        const drawn = output.length + 1;
        const fault = this.#faults.find(
          (candidate) => "draw" in candidate && candidate.seed === sampling.seed && candidate.draw === drawn,
        );
        if (fault?.does === "die") process.kill(process.pid, CRASH);
        if (fault?.does === "hang") return never();
        if (fault?.does === "fail") throw new EngineError("decode_failed", "A draw failed on purpose.");
        return sampler.sample(logits, position, output);
      },
    };
  }
}

/** Takes V8's memory until V8 ends the process. */
function hoard(): never {
  const kept: number[][] = [];
  for (;;) kept.push(Array.from({ length: 1 << 16 }, (_, i) => i / 2));
}

/** What memory that has gone wrong may make of a message. */
function garbled(event: Extract<EngineEvent, { type: "step" }>, how: Garbling): unknown {
  switch (how) {
    case "nothing":
      return null;
    case "type":
      return { ...event, type: "stop" };
    case "shape":
      return { ...event, outputs: { length: 1 } };
    case "id":
      return { ...event, outputs: event.outputs.map((output) => ({ ...output, id: `${output.id}?` })) };
    case "token":
      return { ...event, outputs: event.outputs.map((output) => ({ ...output, tokens: [2 ** 31] })) };
  }
}
