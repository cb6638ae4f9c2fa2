/** An engine with real inference in this process, and whole answers of it. */
import { createEngine } from "../../engine/engine.ts";
import { loadLlamaBackend } from "../../engine/llama/load.ts";
import type { CostModel } from "../../engine/scheduler/types.ts";
import type { EngineStats } from "../../engine/engine-stats.ts";
import type {
  EngineEvent,
  LoadOptions,
  ModelFacts,
  StepOutput,
  SubmitCommand,
} from "../../engine/protocol.ts";

export interface LlamaEngine {
  readonly facts: ModelFacts;
  /** Submits them together. Resolves with what each one got, in their order, and rejects when one of them fails. */
  readonly ask: (...commands: readonly SubmitCommand[]) => Promise<StepOutput[][]>;
  readonly stats: () => Promise<EngineStats>;
  readonly stop: () => Promise<void>;
}

/**
 * Rejects with code and message of a model that is not loaded; nothing runs then.
 * @param cost For plans that do not depend on the machine; absent: as measured.
 */
export async function startLlamaEngine(options: LoadOptions, cost?: CostModel): Promise<LlamaEngine> {
  const listeners = new Set<(event: EngineEvent) => void>();
  const engine = createEngine(
    async (...given) => {
      const backend = await loadLlamaBackend(...given);
      return cost === undefined ? backend : Object.defineProperty(backend, "cost", { value: cost });
    },
    (event) => listeners.forEach((listener) => listener(event)),
  );
  /** Resolves with the first answer other than undefined, and rejects with what is thrown. */
  const heard = <T>(listen: (event: EngineEvent) => T | undefined): Promise<T> =>
    new Promise((resolve, reject) => {
      const listener = (event: EngineEvent): void => {
        try {
          const answer = listen(event);
          if (answer === undefined) return;
          resolve(answer);
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
        listeners.delete(listener);
      };
      listeners.add(listener);
    });
  const stop = async (): Promise<void> => {
    engine.receive({ type: "stop" });
    await engine.stopped;
  };
  const loaded = heard((event) => {
    if (event.type === "load_failed") throw new Error(`${event.code}: ${event.message}`);
    return event.type === "loaded" ? event.facts : undefined;
  });
  engine.receive({ type: "load", options });
  const facts = await loaded.catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  let calls = 0;
  return {
    facts,
    ask: (...commands) => {
      const outputs = new Map(commands.map(({ id }): [string, StepOutput[]] => [id, []]));
      const done = heard((event) => {
        if (event.type === "failed" && outputs.has(event.id)) throw new Error(event.message);
        if (event.type !== "step") return undefined;
        for (const output of event.outputs) outputs.get(output.id)?.push(output);
        const all = [...outputs.values()];
        return all.every((own) => own.at(-1)?.finish !== undefined) ? all : undefined;
      });
      for (const command of commands) engine.receive(command);
      return done;
    },
    stats: () => {
      const answer = heard((event) => (event.type === "stats" ? event.stats : undefined));
      engine.receive({ type: "stats", call: ++calls });
      return answer;
    },
    stop,
  };
}
