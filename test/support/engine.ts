/** An engine over the fake model in this process, with its events recorded, and requests to feed it. */
import { createEngine } from "../../engine/engine.ts";
import { FakeBackend } from "../../engine/fake/backend.ts";
import { GREEDY_PARAMS } from "../../engine/greedy-params.ts";
import type { FakeOptions } from "../../engine/fake/backend.ts";
import type { EngineStats } from "../../engine/engine-stats.ts";
import type {
  EngineCommand,
  EngineEvent,
  GenerationParams,
  LoadOptions,
  StepOutput,
  SubmitCommand,
} from "../../engine/protocol.ts";
import type { WorkerStarter } from "../../engine/prefill-worker/client.ts";
import type { Timeline } from "../../engine/timeline.ts";

export const LOAD_OPTIONS: LoadOptions = {
  modelPath: "fake.gguf",
  contextTokens: undefined,
  slots: 4,
  batchTokens: undefined,
  threads: undefined,
  gpu: "off",
  gpuLayers: undefined,
  flashAttention: "auto",
  kvCacheType: "f16",
  prefillChunk: undefined,
  itlTargetMs: undefined,
  maxQueued: 1000,
  deterministic: false,
  speculate: true,
};

export const GREEDY: GenerationParams = { ...GREEDY_PARAMS, maxTokens: 8 };

export function submitCommand(
  id: string,
  prompt: readonly number[],
  params: Partial<GenerationParams> = {},
  promptLogprobs?: number,
): SubmitCommand {
  return {
    type: "submit",
    id,
    prompt: [{ tokens: prompt }],
    addBos: true,
    params: { ...GREEDY, ...params },
    promptLogprobs,
    resume: [],
    owner: "tester",
  };
}

export interface FakeEngine {
  readonly backend: FakeBackend;
  /** The draft model, where there is one. */
  readonly draft: FakeBackend | undefined;
  readonly events: EngineEvent[];
  send(command: EngineCommand): void;
  /** Resolves when nothing runs or waits; the engine takes no more requests afterwards. */
  drained(): Promise<void>;
  stats(): Promise<EngineStats>;
  /** What the flight recorder kept of the last steps. */
  timeline(steps?: number): Promise<Timeline>;
  stop(): Promise<void>;
  /** All outputs of a request, in order. */
  outputs(id: string): StepOutput[];
  /** All tokens of a request, in order. */
  tokens(id: string): number[];
}

/**
 * @param draftOptions Of a draft model; absent is none.
 * @param startWorker What computes long prompts elsewhere; absent: nothing does.
 */
export async function fakeEngine(
  options: FakeOptions = {},
  load: Partial<LoadOptions> = {},
  draftOptions?: FakeOptions,
  startWorker?: WorkerStarter,
): Promise<FakeEngine> {
  const backend = new FakeBackend(options);
  const draft = draftOptions && new FakeBackend({ ...options, ...draftOptions });
  const draftModelPath = draft && "draft.gguf";
  const events: EngineEvent[] = [];
  const waiters: { matches: (event: EngineEvent) => boolean; resolve: (event: EngineEvent) => void }[] = [];
  const engine = createEngine(
    ({ modelPath }) => Promise.resolve(modelPath === draftModelPath && draft ? draft : backend),
    (event) => {
      events.push(event);
      const index = waiters.findIndex(({ matches }) => matches(event));
      if (index >= 0) waiters.splice(index, 1)[0]?.resolve(event);
    },
    startWorker,
  );
  const next = <T extends EngineEvent>(matches: (event: EngineEvent) => event is T): Promise<T> =>
    new Promise((resolve) => {
      waiters.push({ matches, resolve: (event) => (matches(event) ? resolve(event) : undefined) });
    });
  const loaded = next((event): event is Extract<EngineEvent, { type: "loaded" }> => event.type === "loaded");
  engine.receive({ type: "load", options: { ...LOAD_OPTIONS, draftModelPath, ...load } });
  await loaded;
  // What warm-up computed is of no interest to a test.
  backend.calls.length = 0;
  let call = 0;
  const outputs = (id: string): StepOutput[] =>
    events.flatMap((event) => (event.type === "step" ? event.outputs.filter((o) => o.id === id) : []));
  return {
    backend,
    draft,
    events,
    send: (command) => engine.receive(command),
    drained: async () => {
      const own = ++call;
      const done = next(
        (event): event is Extract<EngineEvent, { type: "drained" }> =>
          event.type === "drained" && event.call === own,
      );
      engine.receive({ type: "drain", call: own });
      await done;
    },
    stats: async () => {
      const own = ++call;
      const answer = next(
        (event): event is Extract<EngineEvent, { type: "stats" }> =>
          event.type === "stats" && event.call === own,
      );
      engine.receive({ type: "stats", call: own });
      return (await answer).stats;
    },
    timeline: async (steps = 1000) => {
      const own = ++call;
      const answer = next(
        (event): event is Extract<EngineEvent, { type: "timeline" }> =>
          event.type === "timeline" && event.call === own,
      );
      engine.receive({ type: "timeline", call: own, steps });
      return (await answer).timeline;
    },
    stop: async () => {
      engine.receive({ type: "stop" });
      await engine.stopped;
    },
    outputs,
    tokens: (id) => outputs(id).flatMap((output) => [...output.tokens]),
  };
}
