/**
 * The engine: takes commands, runs the step loop, emits events. The one owner of scheduler state and cells.
 *
 * Commands are handled as they come: what only adds or marks (submit, cancel, tokenize) is safe while a native
 * call runs, because the step in flight follows a plan that no longer changes. Cells change at boundaries only.
 */
import { performance } from "node:perf_hooks";
import { adapterSet } from "./adapters.ts";
import { costOf } from "./calibrate.ts";
import { noteCompanion } from "./companions.ts";
import { DeviceLease } from "./device-lease.ts";
import { EmbeddingQueue } from "./embedding-queue.ts";
import { EngineError } from "./errors.ts";
import { FlightRecorder } from "./flight-recorder.ts";
import { loadDraft } from "./load-draft.ts";
import { PromptLogprobCollector, checkPromptLogprobs } from "./prompt-logprobs.ts";
import { allowanceOf, checkChoices, checkRoom } from "./scheduler/entry.ts";
import { setPaused, setPriority } from "./scheduler/request-control.ts";
import { createState, submit } from "./scheduler/transitions.ts";
import { checkpointConfig, schedulerConfig } from "./scheduler-config.ts";
import { shareOfFree } from "./free-memory.ts";
import { PinnedPrefixes } from "./pinned-prefixes.ts";
import { openSpillStore } from "./spill-store.ts";
import type { SpillStore } from "./spill-store.ts";
import { engineStats } from "./stats.ts";
import { StepLoop } from "./step-loop.ts";
import type { SideWork } from "./step-loop-links.ts";
import type { AdapterSet } from "./adapters.ts";
import type { Offloads } from "./offloads.ts";
import type { WorkerStarter } from "./prefill-worker/client.ts";
import type { Drafter } from "./drafter.ts";
import type { Backend, BackendLoader } from "./backend.ts";
import { PriorityClass } from "./sharing.ts";
import type { RequestChange } from "./sharing.ts";
import type { EngineCommand, EngineEvent, LoadOptions, ModelFacts, SubmitCommand } from "./protocol.ts";
import type { CostModel } from "./scheduler/types.ts";
import { warn } from "./warn.ts";
import { visitorOf } from "./visitor.ts";

/** A minute or more of a CPU's steps, in about a megabyte. */
const DEFAULT_TIMELINE_STEPS = 2000;
/** An engine that takes the place of a dead one is given what was open at once. */
const CALM_MS = 100;

export interface Engine {
  receive(command: EngineCommand): void;
  /** Whether nothing runs, waits or loads. */
  readonly idle: boolean;
  /** Settles after `stop`, when native memory is free. */
  readonly stopped: Promise<void>;
}

interface Loaded {
  readonly maxPromptTokens: number;
  readonly backend: Backend;
  readonly embeddings: EmbeddingQueue;
  readonly loop: StepLoop;
  readonly recorder: FlightRecorder;
  readonly drafter: Drafter | undefined;
  readonly spill: SpillStore | undefined;
  readonly pinned: PinnedPrefixes;
}

/** @param startWorker What computes long prompts elsewhere; absent: nothing does. */
export function createEngine(
  loadBackend: BackendLoader,
  emit: (event: EngineEvent) => void,
  startWorker?: WorkerStarter,
): Engine {
  let loaded: Loaded | undefined;
  let loading: Promise<void> = Promise.resolve();
  let lease: DeviceLease | undefined;
  let draining = false;
  let stopping = false;
  let resolveStopped: () => void = () => undefined;
  const stopped = new Promise<void>((resolve) => (resolveStopped = resolve));

  async function load(options: LoadOptions): Promise<void> {
    const startMs = performance.now();
    if (options.sharesDevice === true) lease = new DeviceLease(emit);
    let backend: Backend | undefined;
    let drafter: Drafter | undefined;
    let spill: SpillStore | undefined;
    try {
      const { pins = [] } = options;
      const inherited = pins.flatMap(({ file }) => file?.path ?? []);
      spill = options.spill === undefined ? undefined : openSpillStore(options.spill, inherited);
      backend = await loadBackend(options, (ratio) => emit({ type: "load_progress", ratio }));
      const checkpoints = checkpointConfig(options, backend);
      const { cost, measured } = await costOf(backend, options.measured, {
        spill,
        checkpoints: checkpoints !== undefined,
        lease,
      });
      const { draftModelPath } = options;
      const speculate = options.speculate ?? backend.exactTogether.anywhere;
      const speculates = speculate && !options.deterministic;
      const draft =
        draftModelPath === undefined
          ? undefined
          : await loadDraft(loadBackend, draftModelPath, options, {
              target: backend,
              speculates,
              lease,
              onProgress: () => emit({ type: "load_progress", ratio: 1 }),
            });
      drafter = draft?.drafter;
      if (stopping) return await close({ drafter, backend, spill });
      const facts = {
        ...backend.facts,
        ...(draft === undefined ? {} : { draft: draft.facts }),
        ...spillFacts(spill, cost),
        ...(checkpoints === undefined || cost.checkpoint === undefined
          ? {}
          : { checkpointBytes: checkpoints.bytes }),
        measured: [...measured, ...(draft?.measured ?? [])],
      };
      const spillBytes = spill?.limitBytes ?? 0;
      const found = { backend, facts, spillBytes, checkpoints, speculate };
      const state = createState(schedulerConfig(options, found), cost);
      state.texts = facts;
      state.draft = draft?.model;
      const embeddings = new EmbeddingQueue(backend, options, emit);
      const recorder = new FlightRecorder(options.timelineSteps ?? DEFAULT_TIMELINE_STEPS);
      const pinned = new PinnedPrefixes({ state, backend, store: spill, lease, isStopping: () => stopping });
      await pinned.take(pins, () => emit({ type: "load_progress", ratio: 1 }));
      lease?.free(false);
      const sideWork = inTurn(pinned, embeddings);
      const { gatherMs } = options;
      const links = { emit, gatherMs, sideWork, recorder, drafter, spill, lease };
      const loop = new StepLoop(state, backend, links);
      const maxPromptTokens = options.maxPromptTokens ?? Infinity;
      loaded = { maxPromptTokens, backend, embeddings, loop, recorder, drafter, spill, pinned };
      const kept = pins.length === 0 ? {} : { pins: pinned.pins };
      emit({ type: "loaded", facts: { ...facts, ...kept, loadMs: performance.now() - startMs } });
      if (startWorker !== undefined && mayOffload(options, backend, cost))
        employWhenCalm(startWorker, options, loaded);
    } catch (error) {
      lease?.free(false);
      await close({ drafter, backend, spill });
      emit({ type: "load_failed", ...describe(error) });
    }
  }

  /** It loads the model beside what is asked already, but not beside streams that stand still since an engine died. */
  function employWhenCalm(start: WorkerStarter, options: LoadOptions, of: Loaded): void {
    setTimeout(() => {
      if (loaded !== of) return;
      const calm = [...of.loop.state.requests.values()].every(({ interrupted }) => !interrupted);
      if (calm) employ(start, options, of);
      else employWhenCalm(start, options, of);
    }, CALM_MS).unref();
  }

  function employ(start: WorkerStarter, options: LoadOptions, { loop, backend, spill }: Loaded): void {
    if (spill === undefined) return;
    let offloads: Offloads | undefined;
    const computer = start(options, backend.facts, {
      onReady: () => offloads?.noteReady(),
      onGone: (reason) => {
        warn("There is no prefill worker", reason);
        offloads?.noteGone();
      },
      onProcess: (pid) => {
        noteCompanion(pid);
        emit({ type: "companion", pid });
      },
    });
    offloads = loop.offloadTo(computer, spill);
  }

  function receive(command: EngineCommand): void {
    switch (command.type) {
      case "load":
        loading = load(command.options);
        return;
      case "submit":
        return admit(command);
      case "cancel":
        return loaded?.loop.cancel(command.id);
      case "control":
        return control(command.id, command.change);
      case "tokenize":
        return answer(command.call, ({ backend }) => ({
          type: "tokenized",
          call: command.call,
          tokens: command.texts.map((parts) => [...backend.tokenize(parts, command.addBos)]),
        }));
      case "embed":
      case "rank":
        return answer(command.call, ({ embeddings, loop }) => {
          if (draining) throw new EngineError("draining", "The engine takes no new requests.");
          embeddings.add(command);
          loop.change(() => undefined);
          return undefined;
        });
      case "pin":
        return answer(command.call, ({ pinned, loop }) => {
          const { call } = command;
          pinned.want(command.prompts).then(
            (pins) => emit({ type: "pinned", call, pins }),
            (error: unknown) => emit({ type: "call_failed", call, ...describe(error), details: undefined }),
          );
          loop.change(() => undefined);
          return undefined;
        });
      case "cancel_call":
        return loaded?.embeddings.cancel(command.call);
      case "stats":
        return answer(command.call, ({ loop }) => ({
          type: "stats",
          call: command.call,
          stats: engineStats(loop),
        }));
      case "timeline":
        return answer(command.call, ({ loop, recorder }) => ({
          type: "timeline",
          call: command.call,
          timeline: recorder.timeline(loop.state, command.steps),
        }));
      case "drain":
        draining = true;
        for (const id of loaded?.loop.state.requests.keys() ?? []) control(id, { paused: false });
        return answer(command.call, ({ embeddings, loop }) => {
          const idle = Promise.all([loop.idle(), embeddings.idle()]);
          void idle.then(() => emit({ type: "drained", call: command.call }));
          return undefined;
        });
      case "device_granted":
        return lease?.grant(command.forMs);
      case "device_recalled":
        return lease?.recall(command.afterMs);
      case "fault":
        return undefined;
      case "stop":
        void stop();
    }
  }

  function admit(command: SubmitCommand): void {
    const { id } = command;
    try {
      if (loaded === undefined) throw new EngineError("internal", "No model is loaded.");
      if (draining) throw new EngineError("draining", "The engine takes no new requests.");
      const { maxPromptTokens, backend, loop } = loaded;
      if (!backend.facts.generates)
        throw new EngineError("invalid_request", "This model gives vectors or scores and does not generate.");
      // Before the work of tokenizing a prompt that would be refused.
      const known = command.accepted === true || command.resume.length > 0;
      let hash: string | undefined;
      const visitor = (): string => (hash ??= visitorOf(command));
      const { owner: tenant, priority = PriorityClass.normal, returnsWithinMs } = command;
      const who = { tenant, priority, visitor, returnsWithinMs };
      if (!known) {
        checkChoices(loop.state, who, command.choice?.of ?? 1);
        checkRoom(loop.state, who, performance.now());
      }
      const adapters = adapterSet(command.adapters, backend.facts.adapters);
      const prompt = backend.tokenize(command.prompt, command.addBos);
      if (prompt.length > maxPromptTokens) {
        const details = { promptTokens: prompt.length, maxPromptTokens };
        throw new EngineError("prompt_too_long", "The prompt is longer than this engine takes.", details);
      }
      if (!known) checkChoices(loop.state, { tenant, promptTokens: prompt.length }, command.choice?.of ?? 1);
      // Needs no word of what is resumed: each draw is told the whole output so far.
      const sampler = backend.createSampler(command.params, prompt);
      // A resumed request has brought those of its prompt with its first token.
      const top = command.resume.length > 0 ? undefined : command.promptLogprobs;
      let promptLogprobs: PromptLogprobCollector | undefined;
      try {
        if (top !== undefined) {
          checkPromptLogprobs(top);
          promptLogprobs = new PromptLogprobCollector(backend.createLogprobReader(top), prompt, top);
        }
        loop.change((state, nowMs) => {
          const queuePosition = submit(
            state,
            {
              id,
              ...who,
              paused: command.paused ?? false,
              accepted: known,
              firstTokenWithinMs: command.firstTokenWithinMs,
              endWithinMs: command.endWithinMs,
              prompt,
              resume: backend.tokenize([{ tokens: command.resume }], false),
              maxTokens: command.params.maxTokens,
              cacheKey: cacheKeyOf(command, adapters),
              adapters,
              reusePrefix: command.params.reusePrefix && top === undefined,
              keepMs: command.params.keepMs ?? 0,
              readsPrompt: top !== undefined,
              repeatsPrompt: command.choice?.repeatsPrompt ?? false,
              predicted: backend.tokenize(command.predicted ?? [], false),
            },
            nowMs,
          );
          loop.addRequest(id, command.params, {
            sampler,
            promptLogprobs,
            reportsPrefill: command.reportsPrefill ?? false,
          });
          const allowance = allowanceOf(state, command.owner, nowMs);
          emit({ type: "accepted", id, promptTokens: [...prompt], queuePosition, allowance });
        });
      } catch (error) {
        sampler.dispose();
        promptLogprobs?.dispose();
        throw error;
      }
    } catch (error) {
      const details = error instanceof EngineError ? error.details : undefined;
      emit({ type: "failed", id, ...describe(error), details });
    }
  }

  function control(id: string, { priority, paused }: RequestChange): void {
    loaded?.loop.change((state, nowMs) => {
      if (priority !== undefined) setPriority(state, id, priority);
      // Who is to leave must come to an end.
      if (paused !== undefined) setPaused(state, id, paused && !draining, nowMs);
    });
  }

  function answer(call: number, make: (loaded: Loaded) => EngineEvent | undefined): void {
    try {
      if (loaded === undefined) throw new EngineError("internal", "No model is loaded.");
      const event = make(loaded);
      if (event !== undefined) emit(event);
    } catch (error) {
      const details = error instanceof EngineError ? error.details : undefined;
      emit({ type: "call_failed", call, ...describe(error), details });
    }
  }

  async function stop(): Promise<void> {
    stopping = true;
    lease?.close();
    await loading;
    const closing = loaded;
    loaded = undefined;
    await closing?.loop.stop();
    if (closing !== undefined) await close(closing);
    resolveStopped();
  }

  return {
    receive,
    stopped,
    get idle() {
      return loaded !== undefined && loaded.loop.state.requests.size === 0 && !loaded.embeddings.pending;
    },
  };
}

/**
 * On a CPU whose cores compute, and where there is memory for the cells of one more slot twice, for those that are in
 * transit, and for the weights once more: the runtime may keep them in another form than the file, which is not shared.
 */
function mayOffload(
  { prefillWorker, deterministic }: LoadOptions,
  { facts, canRewind, windowTokens }: Backend,
  cost: CostModel,
): boolean {
  // Elsewhere nobody tells whose process one is, and one that stands still might be left behind.
  if (prefillWorker !== true || deterministic || process.platform !== "linux") return false;
  if (facts.gpuLayers > 0 || facts.threads < 2 || !facts.generates || cost.spill === undefined) return false;
  // A window's cells are in files of another form.
  if (!canRewind || windowTokens !== undefined) return false;
  const slotBytes = facts.contextBytes / facts.slots;
  const bytes = facts.sizeBytes + 3 * slotBytes;
  return shareOfFree({ share: 0.5, mostBytes: bytes }) === bytes;
}

/** What other adapters have computed is other cells. */
function cacheKeyOf({ cacheScope = "" }: SubmitCommand, adapters: AdapterSet | undefined): string {
  return adapters === undefined ? cacheScope : `${adapters.key}\n${cacheScope}`;
}

/** A model whose cells cannot be saved keeps nothing. */
function spillFacts(store: SpillStore | undefined, cost: CostModel): Pick<ModelFacts, "spill"> {
  if (store === undefined || cost.spill === undefined || store.limitBytes <= 0) return {};
  const { directory, inMemory, limitBytes } = store;
  return { spill: { directory, inMemory, limitBytes } };
}

/** What comes first goes first. */
function inTurn(...works: readonly SideWork[]): SideWork {
  const next = (): SideWork | undefined => works.find(({ pending }) => pending);
  return {
    get pending() {
      return next() !== undefined;
    },
    runPiece: async () => next()?.runPiece(),
  };
}

interface Resources {
  readonly drafter: Drafter | undefined;
  readonly backend: Backend | undefined;
  readonly spill: SpillStore | undefined;
}

async function close({ drafter, backend, spill }: Resources): Promise<void> {
  await drafter?.dispose();
  await backend?.close();
  // Last, since files that cannot be removed must not keep the rest.
  spill?.close();
}

function describe(error: unknown): { code: EngineError["code"]; message: string } {
  if (error instanceof EngineError) return { code: error.code, message: error.message };
  return { code: "internal", message: error instanceof Error ? error.message : String(error) };
}
