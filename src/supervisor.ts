/**
 * Lets requests outlive their engine: keeps what each has asked and got, and gives it to the next engine.
 *
 * Stands between the engine's client, which sees one engine that never dies, and one engine process after the
 * other, which the model host starts. Sampling depends on nothing but tokens, so a request that is submitted
 * again behind the tokens it has goes on as if nothing had happened; its client sees a pause.
 */
import { performance } from "node:perf_hooks";
import type {
  EngineCommand,
  EngineEvent,
  EngineExit,
  EnginePort,
  LoadOptions,
  ModelFacts,
  RequestId,
  SubmitCommand,
  TokenId,
} from "../engine/protocol.ts";
import type { RequestChange } from "../engine/sharing.ts";
import type { EngineErrorCode } from "../engine/errors.ts";
import { sameSizes, withCost } from "./next-engine.ts";
import { movesByOwnIds, withOwnIds } from "./own-ids.ts";
import type { OwnId } from "./own-ids.ts";
import { PlausibleEvents } from "./plausible-events.ts";
import { StuckWatch } from "./stuck-watch.ts";
import type { Owed } from "./stuck-watch.ts";
import { Suspicion } from "./suspicion.ts";
import type { Death } from "./suspicion.ts";

/**
 * Crashes after which a call is to blame. A request that engines die of takes no more than two of them with calls
 * beside it.
 */
const GUILTY_CRASHES = 3;

/** Calls that wait for an engine; each holds texts to tokenize at most. */
const MOST_HELD_CALLS = 64;

/** A request that has been asked and has not ended. */
interface Kept {
  /** As its client asked it, the prompt in tokens as soon as they are known. */
  command: SubmitCommand;
  accepted: boolean;
  /** When it was asked. */
  readonly keptMs: number;
  readonly tokens: TokenId[];
  /** Its name in the engine that has it; undefined while none has. */
  engineId: RequestId | undefined;
  submissions: number;
  readonly suspicion: Suspicion;
}

type CallCommand = Exclude<Extract<EngineCommand, { call: number }>, { type: "cancel_call" }>;

/** A question that has not been answered. */
interface HeldCall {
  readonly command: CallCommand;
  sent: boolean;
  /** Crashes it was there at. */
  crashes: number;
}

export interface SupervisorHooks {
  /** Requests that a new engine was given, which an earlier one had begun. */
  readonly onReplay: (requests: number) => void;
  /** A request that engines die of has been found and failed. */
  readonly onConviction: (id: RequestId) => void;
  /** The engine has been silent for too long and is killed. */
  readonly onStuck: (silenceMs: number) => void;
  /** The engine has said something that no engine says, and is killed. */
  readonly onGarbled: () => void;
}

/** What an engine was good for. */
export interface Life {
  /** Whether it brought any output, or its death the culprit: the next one is worth starting at once. */
  readonly fruitful: boolean;
  /** Whether it was killed for its silence, or for rubbish. */
  readonly stuck: boolean;
  readonly garbled: boolean;
}

export class Supervisor implements EnginePort {
  readonly exited: Promise<EngineExit>;
  readonly #hooks: SupervisorHooks;
  readonly #watch: StuckWatch;
  #settle: (exit: EngineExit) => void = () => undefined;
  #receiver: (event: EngineEvent) => void = () => undefined;
  #port: EnginePort | undefined;
  #options: LoadOptions | undefined;
  #facts: ModelFacts | undefined;
  /** Set while an engine loads again. */
  #reloading: { resolve(facts: ModelFacts): void; reject(cause: Error): void } | undefined;
  /** Whether the engine is loaded. */
  #ready = false;
  #stuck = false;
  #garbled = false;
  #tokensOfLife = 0;
  /** In order of arrival. */
  readonly #kept = new Map<RequestId, Kept>();
  /** Those that the engine has. */
  readonly #present = new Map<RequestId, Kept>();
  readonly #ownId: OwnId = (engineId) => this.#present.get(engineId)?.command.id;
  readonly #calls = new Map<number, HeldCall>();
  readonly #plausible = new PlausibleEvents({ requests: this.#present, calls: this.#calls });
  /** The suspect that runs alone now; everybody else waits. */
  #trial: Kept | undefined;

  /** @param stuckAfterMs Silence that is never taken for the end, in ms. */
  constructor(stuckAfterMs: number, hooks: SupervisorHooks) {
    this.#hooks = hooks;
    this.#watch = new StuckWatch(stuckAfterMs);
    this.exited = new Promise((resolve) => (this.#settle = resolve));
  }

  // The client's side.

  send(command: EngineCommand): void {
    if (command.type === "cancel_call") return this.#cancelCall(command.call);
    if ("call" in command) return this.#ask(command);
    switch (command.type) {
      case "load":
        this.#options = command.options;
        return this.#port?.send(command);
      case "submit":
        return this.#keep(command);
      case "cancel":
        return this.#cancel(command.id);
      case "control":
        return this.#control(command.id, command.change);
      case "fault":
      case "stop":
        return this.#port?.send(command);
      case "device_granted":
      case "device_recalled":
        // Not the client's to say.
        return undefined;
    }
  }

  onEvent(receiver: (event: EngineEvent) => void): void {
    this.#receiver = receiver;
  }

  kill(): void {
    this.#port?.kill();
  }

  // The host's side.

  /** Takes an engine that has been started, in place of the one before. */
  connect(port: EnginePort): void {
    this.#port = port;
    this.#ready = false;
    this.#garbled = false;
    this.#plausible.begin();
    this.#watch.heard();
    port.onEvent((event) => {
      if (this.#port !== port || this.#garbled) return;
      if (this.#plausible.has(event)) this.#receive(event);
      else this.#reject(port);
    });
  }

  /**
   * Loads the model again, with the sizes it had, and hands over every unfinished request.
   * @param measures Whether what calls cost is measured again, which takes its time.
   * @throws {Error} What keeps it from loading.
   */
  reload(measures: boolean): Promise<ModelFacts> {
    return new Promise((resolve, reject) => {
      const [options, facts] = [this.#options, this.#facts];
      if (options === undefined || facts === undefined)
        return reject(new Error("Nothing was loaded before."));
      this.#reloading = { resolve, reject };
      this.#port?.send({
        type: "load",
        options: sameSizes(options, measures ? { ...facts, measured: [] } : facts),
      });
    });
  }

  /** Notes the end of the engine. Requests wait for the next one, except one that is guilty of the end. */
  lose(death: Death): Life {
    this.#port = undefined;
    this.#ready = false;
    this.#reloading = undefined;
    this.#trial = undefined;
    const cause = this.#stuck || this.#garbled ? "crash" : death;
    const present = [...this.#present.values()];
    const asked = [...this.#calls.values()].filter(({ sent }) => sent);
    this.#present.clear();
    const alone = present.length + asked.length === 1;
    let convicted = 0;
    for (const kept of present) {
      kept.engineId = undefined;
      kept.suspicion.noteDeath(cause, kept.tokens.length, alone);
      if (!kept.suspicion.guilty) continue;
      convicted += 1;
      const { id } = kept.command;
      this.#hooks.onConviction(id);
      this.#fail(id, "engine_crashed", "The engine ended each time it computed this request.");
    }
    for (const held of asked) convicted += this.#reviewCall(held, cause) ? 1 : 0;
    const fruitful = this.#tokensOfLife > 0 || convicted > 0;
    const life = { fruitful, stuck: this.#stuck, garbled: this.#garbled };
    this.#tokensOfLife = 0;
    this.#stuck = false;
    return life;
  }

  /** No engine will come any more: what is open fails. */
  end(exit: EngineExit): void {
    this.#port = undefined;
    this.#ready = false;
    this.#kept.clear();
    this.#present.clear();
    this.#calls.clear();
    this.#settle(exit);
  }

  /** Call it every `passedMs`: kills an engine that has been silent for too long. */
  tick(passedMs: number): void {
    const turn = this.#port?.deviceTurn;
    // Another engine has the device, and is what is waited for.
    if (turn === "awaited") return this.#watch.heard();
    const waitingFor = this.#waitingFor(turn === "owed");
    if (!this.#watch.tick(passedMs, waitingFor) || waitingFor === undefined || this.#stuck) return;
    this.#stuck = true;
    this.#hooks.onStuck(this.#watch.limitMs(waitingFor));
    this.#port?.kill();
  }

  /** @param owesDevice Whether other engines wait for it to end its turn on the device. */
  #waitingFor(owesDevice: boolean): Owed | undefined {
    if (this.#reloading !== undefined || (owesDevice && !this.#ready)) return "load";
    const asked = [...this.#calls.values()].some(({ sent, command }) => sent && command.type === "tokenize");
    // Of those who are paused nothing is heard.
    const running = [...this.#present.values()].some(({ command }) => command.paused !== true);
    if (running || asked) return "requests";
    // Other calls may take as long as they need where nobody waits for their end; one that was cancelled may go on, too.
    return owesDevice ? "calls" : undefined;
  }

  // Requests.

  #keep(command: SubmitCommand): void {
    const { id } = command;
    if (this.#kept.has(id)) return this.#refuse(id, "invalid_request", `Request id "${id}" is in use.`);
    const open = this.#ready && this.#trial === undefined;
    const { slots = 0, maxQueued = 0 } = this.#options ?? {};
    // An engine that is up counts by itself, and knows which slots are free.
    if (!open && this.#kept.size - slots >= maxQueued)
      return this.#refuse(id, "queue_full", `${maxQueued} requests are waiting already.`);
    const kept: Kept = {
      command,
      accepted: false,
      keptMs: performance.now(),
      tokens: [...command.resume],
      engineId: undefined,
      submissions: 0,
      suspicion: new Suspicion(),
    };
    this.#kept.set(id, kept);
    if (open) this.#submit(kept);
  }

  #submit(kept: Kept): void {
    const { command, tokens } = kept;
    kept.submissions += 1;
    // An engine may still know the request by the name it had before.
    kept.engineId = kept.submissions === 1 ? command.id : `${command.id}~${kept.submissions}`;
    this.#present.set(kept.engineId, kept);
    const repeated = kept.submissions === 1 ? command : leftOf(command, performance.now() - kept.keptMs);
    this.#port?.send({ ...repeated, id: kept.engineId, accepted: kept.accepted, resume: [...tokens] });
  }

  #cancel(id: RequestId): void {
    const kept = this.#kept.get(id);
    if (kept === undefined) return;
    this.#kept.delete(id);
    this.#withdraw(kept);
    this.#reviewTrial();
  }

  /** An engine that comes later is told what the request has become. */
  #control(id: RequestId, change: RequestChange): void {
    const kept = this.#kept.get(id);
    if (kept === undefined) return;
    kept.command = { ...kept.command, ...change };
    if (kept.engineId !== undefined) this.#port?.send({ type: "control", id: kept.engineId, change });
  }

  /** Takes a request out of the engine. */
  #withdraw(kept: Kept): void {
    if (kept.engineId === undefined) return;
    this.#present.delete(kept.engineId);
    this.#plausible.withdraw(kept.engineId);
    this.#port?.send({ type: "cancel", id: kept.engineId });
    kept.engineId = undefined;
  }

  #forget(kept: Kept): void {
    this.#kept.delete(kept.command.id);
    if (kept.engineId !== undefined) this.#present.delete(kept.engineId);
  }

  #fail(id: RequestId, code: EngineErrorCode, message: string): void {
    this.#kept.delete(id);
    this.#receiver({ type: "failed", id, code, message, details: undefined });
  }

  /** Later, as an engine would: nobody expects an answer inside `send`. */
  #refuse(id: RequestId, code: EngineErrorCode, message: string): void {
    queueMicrotask(() => this.#receiver({ type: "failed", id, code, message, details: undefined }));
  }

  /**
   * Gives the engine everything that waits, or one suspect alone. Who is in the middle of an answer goes before those who
   * came earlier and have none of it yet.
   */
  #admit(): void {
    if (!this.#ready || this.#trial !== undefined) return;
    const waiting = [...this.#kept.values()]
      .filter(({ engineId }) => engineId === undefined)
      .toSorted((one, other) => Number(one.tokens.length === 0) - Number(other.tokens.length === 0));
    const suspect = waiting.find(({ suspicion }) => suspicion.suspect);
    this.#trial = suspect;
    const admitted = suspect === undefined ? waiting : [suspect];
    for (const kept of admitted) this.#submit(kept);
    const replayed = admitted.filter(({ submissions }) => submissions > 1).length;
    if (replayed > 0) this.#hooks.onReplay(replayed);
    if (suspect !== undefined) return;
    for (const held of this.#calls.values()) if (!held.sent) this.#sendCall(held);
  }

  /** Ends a trial when its request is cleared or gone; the next suspect is tried or everybody goes on. */
  #reviewTrial(): void {
    const trial = this.#trial;
    if (trial === undefined) return;
    trial.suspicion.noteProgress(trial.tokens.length);
    const open = this.#kept.has(trial.command.id);
    if (open && trial.suspicion.suspect) return;
    this.#trial = undefined;
    const more = [...this.#kept.values()].some(({ suspicion }) => suspicion.suspect);
    // The next one must be alone as well.
    if (open && more) this.#withdraw(trial);
    this.#admit();
  }

  // Calls.

  #ask(command: CallCommand): void {
    const held: HeldCall = { command, sent: false, crashes: 0 };
    const up = this.#ready && (this.#trial === undefined || asksOfNow(command));
    if (!up && asksOfNow(command)) return this.#refuseCall(command.call, "engine_exited", "No engine.");
    if (!up && this.#calls.size >= MOST_HELD_CALLS)
      return this.#refuseCall(command.call, "queue_full", "Too many calls are waiting already.");
    this.#calls.set(command.call, held);
    if (up) this.#sendCall(held);
  }

  #sendCall(held: HeldCall): void {
    held.sent = true;
    this.#port?.send(held.command);
  }

  #cancelCall(call: number): void {
    const held = this.#calls.get(call);
    this.#calls.delete(call);
    if (held?.sent === true) this.#port?.send({ type: "cancel_call", call });
  }

  /** @returns Whether the call is blamed for the death. */
  #reviewCall(held: HeldCall, death: Death): boolean {
    const { command } = held;
    held.sent = false;
    held.crashes += death === "crash" ? 1 : 0;
    const guilty = held.crashes >= GUILTY_CRASHES;
    if (!guilty && !asksOfNow(command)) return false;
    this.#calls.delete(command.call);
    const code = guilty ? "engine_crashed" : "engine_exited";
    this.#refuseCall(command.call, code, "The engine ended before it answered.");
    return guilty;
  }

  #refuseCall(call: number, code: EngineErrorCode, message: string): void {
    queueMicrotask(() => this.#receiver({ type: "call_failed", call, code, message, details: undefined }));
  }

  // Events.

  #reject(port: EnginePort): void {
    this.#garbled = true;
    this.#hooks.onGarbled();
    port.kill();
  }

  #receive(event: EngineEvent): void {
    if ("call" in event) {
      if (this.#present.size === 0) this.#watch.heard();
      if (!this.#calls.delete(event.call)) return;
      if (event.type === "embedded" || event.type === "ranked") this.#watch.answered(event.work.ms);
      if (event.type === "pinned" && this.#facts !== undefined)
        this.#facts = { ...this.#facts, pins: event.pins };
      return this.#receiver(withOwnIds(event, this.#ownId));
    }
    switch (event.type) {
      case "load_progress":
        this.#watch.heard();
        if (this.#reloading === undefined) this.#receiver(event);
        return;
      case "companion":
        return undefined;
      case "device_wanted":
      case "device_freed":
        return this.#watch.heard();
      case "loaded":
        return this.#takeFacts(event.facts);
      case "load_failed":
        if (this.#reloading === undefined) return this.#receiver(event);
        return this.#reloading.reject(new Error(event.message));
      case "accepted": {
        const kept = this.#present.get(event.id);
        if (kept === undefined || kept.accepted) return;
        kept.accepted = true;
        const { promptTokens } = event;
        kept.command = { ...kept.command, prompt: [{ tokens: promptTokens }], addBos: false };
        return this.#receiver({ ...event, id: kept.command.id });
      }
      case "failed": {
        const kept = this.#present.get(event.id);
        if (kept === undefined) return;
        this.#watch.heard();
        this.#forget(kept);
        this.#receiver({ ...event, id: kept.command.id });
        return this.#reviewTrial();
      }
      case "step":
        return this.#takeStep(event);
    }
  }

  #takeFacts(facts: ModelFacts): void {
    const reloading = this.#reloading;
    const before = this.#facts;
    this.#reloading = undefined;
    this.#facts = facts;
    this.#plausible.load(facts);
    this.#ready = true;
    this.#watch.loaded(facts.loadMs);
    if (reloading === undefined) return this.#receiver({ type: "loaded", facts });
    // Tokens mean nothing to a model with another vocabulary.
    if (before !== undefined && Buffer.compare(before.tokenBytes, facts.tokenBytes) !== 0) {
      for (const { accepted, command } of this.#kept.values())
        if (accepted) this.#fail(command.id, "engine_exited", "The model has been replaced by another one.");
    }
    reloading.resolve(facts);
    this.#admit();
  }

  #takeStep(event: Extract<EngineEvent, { type: "step" }>): void {
    for (const report of event.before ?? []) this.#watch.stepped(report);
    this.#watch.stepped(event.report);
    const { cost } = event.report;
    if (cost !== undefined && this.#facts !== undefined) this.#facts = withCost(this.#facts, cost);
    // Before finishes make names unknown.
    const moves = event.moves && movesByOwnIds(event.moves, this.#ownId);
    const outputs = event.outputs.flatMap((output) => {
      const kept = this.#present.get(output.id);
      if (kept === undefined) return [];
      kept.tokens.push(...output.tokens);
      this.#tokensOfLife += output.tokens.length;
      if (output.finish !== undefined) this.#forget(kept);
      return [{ ...output, id: kept.command.id }];
    });
    this.#receiver({ ...event, outputs, ...(moves === undefined ? {} : { moves }) });
    this.#reviewTrial();
  }
}

/** What an engine is doing, or has done, cannot be asked of the next one. */
function asksOfNow({ type }: CallCommand): boolean {
  return type === "stats" || type === "timeline";
}

/** The request with what is left of its time. */
function leftOf(command: SubmitCommand, passedMs: number): SubmitCommand {
  const { firstTokenWithinMs: first, endWithinMs: end } = command;
  return {
    ...command,
    ...(first === undefined ? {} : { firstTokenWithinMs: Math.max(0, first - passedMs) }),
    ...(end === undefined ? {} : { endWithinMs: Math.max(0, end - passedMs) }),
  };
}
