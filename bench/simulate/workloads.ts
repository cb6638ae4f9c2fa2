/**
 * Traces for the simulator: seeded, made as they are asked for, in the shapes that published traces have.
 *
 * The shapes are lengths, arrivals and what prompts share; they are drawn from laws fitted to published quantiles and
 * are not the traces themselves.
 */
import type { SimulatedRequest, TokenRun } from "../../engine/simulate/simulator.ts";
import { byMean, createDraws, drawLength, meanLength } from "./random.ts";
import type { Draws, LengthLaw } from "./random.ts";

export interface TraceSettings {
  readonly requests: number;
  readonly seed: number;
  /** New arrivals a second, follow-ups not counted. */
  readonly perSecond: number;
  /** Of the gaps between arrivals, in place of the workload's own; see `Draws.gap`. Nothing to `closed`. */
  readonly cv?: number | undefined;
  /** Prompt and output are cut so that they fit. */
  readonly contextTokens: number;
  /** Clients of `closed`, each of which asks again when it is answered. */
  readonly clients: number;
}

export interface Workload {
  readonly about: string;
  /** Tokens of a request on average, of the prompt those that nobody else has. */
  readonly mean: { readonly prompt: number; readonly output: number };
  /** Requests that one arrival stands for, follow-ups included. */
  readonly perArrival: number;
  trace(settings: TraceSettings): Generator<SimulatedRequest>;
}

interface Shape {
  readonly about: string;
  readonly prompt: LengthLaw;
  readonly output: LengthLaw;
  /** Of the times between arrivals; 1 is Poisson's. */
  readonly cv: number;
  /** Tokens with which a share of the prompts begins, one of `of` texts. */
  readonly shared?: { readonly tokens: number; readonly share: number; readonly of: number };
  /** Turns of a conversation after the first, on average, and the time a reader thinks. */
  readonly turns?: { readonly mean: number; readonly thinkMs: number; readonly prompt: LengthLaw };
  /** Share of clients that leave, at a random moment within this time. */
  readonly leave?: { readonly share: number; readonly withinMs: number };
  /** Whether the rate swings between a half and one and a half of itself, once in 1000 mean gaps. */
  readonly swings?: boolean;
}

/** A prompt leaves this much room for its answer at least. */
const LEAST_OUTPUT = 16;

const SHAPES = {
  "chat-small": {
    about: "short chats (ShareGPT): prompts of 161 tokens, answers of 338 on average",
    prompt: byMean(161, 80),
    output: byMean(338, 240),
    cv: 1,
  },
  alpaca: {
    about: "instructions: prompts of 19 tokens, answers of 58 on average",
    prompt: byMean(19, 16),
    output: byMean(58, 42),
    cv: 1,
  },
  "chat-long": {
    about: "conversations whose prompts grow turn by turn (OpenChat)",
    prompt: { p50: 900, p90: 3000 },
    output: { p50: 415, p90: 834 },
    cv: 1,
    turns: { mean: 3, thinkMs: 15_000, prompt: byMean(120, 70) },
  },
  summarize: {
    about: "papers to be summarized: prompts of 7,059 tokens, answers of 208 in the middle",
    prompt: { p50: 7059, p90: 12_985 },
    output: { p50: 208, p90: 371 },
    cv: 1,
  },
  "azure-chat": {
    about: "an API's conversations: prompts of 1,020 tokens, answers short or long, in bursts",
    prompt: { p50: 1020, p90: 4000 },
    output: { p50: 90, p90: 160, other: { share: 0.4, law: { p50: 380, p90: 600 } } },
    cv: 2,
    shared: { tokens: 100, share: 0.2, of: 20 },
  },
  "azure-code": {
    about: "code completion: prompts of 1,500 tokens, answers of 13, in sharp bursts",
    prompt: { p50: 1500, p90: 5000 },
    output: { p50: 13, p90: 60 },
    cv: 4,
    shared: { tokens: 600, share: 0.4, of: 10 },
  },
  burst: {
    about: "conversations in bursts whose rate swings (BurstGPT)",
    prompt: { p50: 60, p90: 1200 },
    output: { p50: 40, p90: 120, other: { share: 0.5, law: { p50: 280, p90: 500 } } },
    cv: 2,
    swings: true,
    turns: { mean: 1, thinkMs: 10_000, prompt: byMean(60, 40) },
  },
  agent: {
    about: "agents: prompts of 7,590 tokens, half of them shared, answers of 182 (Mooncake)",
    prompt: byMean(3800, 3000),
    output: byMean(182, 120),
    cv: 2,
    shared: { tokens: 3800, share: 1, of: 12 },
  },
  disconnects: {
    about: "short chats of which three in ten clients leave before the end",
    prompt: byMean(161, 80),
    output: byMean(338, 240),
    cv: 1,
    leave: { share: 0.3, withinMs: 20_000 },
  },
} as const satisfies Record<string, Shape>;

/** Numbers tokens so that no two texts share any. */
class Texts {
  #next = 1;

  text(tokens: number): TokenRun {
    const first = this.#next;
    this.#next += tokens;
    // Unsigned 32-bit numbers; a trace that uses them up begins again, long after the first texts are gone.
    if (this.#next > 0xf000_0000) this.#next = 1;
    return { first, tokens };
  }
}

/** Keeps a run's beginning. */
function cut({ first, tokens }: TokenRun, most: number): TokenRun {
  return { first, tokens: Math.min(tokens, most) };
}

function fit(runs: readonly TokenRun[], most: number): TokenRun[] {
  const kept: TokenRun[] = [];
  let room = most;
  for (const run of runs) {
    const fitting = cut(run, room);
    if (fitting.tokens > 0) kept.push(fitting);
    room -= fitting.tokens;
  }
  return kept;
}

function lengthOf(runs: readonly TokenRun[]): number {
  return runs.reduce((sum, { tokens }) => sum + tokens, 0);
}

function shapedWorkload(shape: Shape): Workload {
  const turns = shape.turns?.mean ?? 0;
  return {
    about: shape.about,
    mean: { prompt: meanLength(shape.prompt), output: meanLength(shape.output) },
    perArrival: 1 + turns,
    *trace(settings) {
      const draws = createDraws(settings.seed);
      const texts = new Texts();
      const shared = Array.from({ length: shape.shared?.of ?? 0 }, () =>
        texts.text(shape.shared?.tokens ?? 0),
      );
      const arrivals = Math.ceil(settings.requests / (1 + turns));
      let atMs = 0;
      for (let i = 0; i < arrivals; i++) {
        const swing = shape.swings === true ? 1 + 0.5 * Math.sin((2 * Math.PI * i) / 1000) : 1;
        atMs += ((1000 / settings.perSecond) * draws.gap(settings.cv ?? shape.cv)) / swing;
        const begins = draws.rng.next() < (shape.shared?.share ?? 0);
        const opening = begins ? shared[draws.rng.below(shared.length)] : undefined;
        const own = texts.text(drawLength(shape.prompt, draws));
        yield turnOf(atMs, opening === undefined ? [own] : [opening, own], { shape, settings, draws, texts });
      }
    },
  };
}

interface TurnSource {
  readonly shape: Shape;
  readonly settings: TraceSettings;
  readonly draws: Draws;
  readonly texts: Texts;
}

function turnOf(atMs: number, wanted: readonly TokenRun[], source: TurnSource): SimulatedRequest {
  const { shape, settings, draws, texts } = source;
  const prompt = fit(wanted, settings.contextTokens - LEAST_OUTPUT);
  const output = cut(texts.text(drawLength(shape.output, draws)), settings.contextTokens - lengthOf(prompt));
  const leaves = shape.leave !== undefined && draws.rng.next() < shape.leave.share;
  const { turns } = shape;
  // A geometric number of turns has the given mean.
  const goesOn = turns !== undefined && draws.rng.next() < turns.mean / (1 + turns.mean);
  return {
    arrivalMs: atMs,
    tenant: "anonymous",
    priority: 1,
    prompt,
    output,
    maxTokens: undefined,
    patienceMs: leaves ? draws.rng.next() * (shape.leave?.withinMs ?? 0) : undefined,
    ...(goesOn
      ? {
          next: (endMs, end) => {
            const grown = [...prompt, output, texts.text(drawLength(turns.prompt, draws))];
            if (end !== "done" || lengthOf(grown) > settings.contextTokens - LEAST_OUTPUT) return undefined;
            return turnOf(endMs + turns.thinkMs * draws.gap(1), grown, source);
          },
        }
      : {}),
  };
}

/** One tenant sends sixteen long requests at once, again and again; another one asks short questions. */
const tenants: Workload = {
  about: "one tenant sends 16 long requests at a time, another one short questions",
  mean: { prompt: 500, output: 150 },
  perArrival: 1,
  *trace(settings) {
    const draws = createDraws(settings.seed);
    const texts = new Texts();
    const gapMs = 1000 / settings.perSecond;
    let burstMs = 0;
    let questionMs = 0;
    for (let i = 0; i < settings.requests;) {
      burstMs += 32 * gapMs * draws.gap(settings.cv ?? 0.5);
      while (questionMs < burstMs && i < settings.requests) {
        yield tenantRequest(questionMs, "short", [texts.text(30), texts.text(60)], settings);
        questionMs += 2 * gapMs * draws.gap(settings.cv ?? 1);
        i += 1;
      }
      for (let k = 0; k < 16 && i < settings.requests; k++, i++)
        yield tenantRequest(burstMs, "long", [texts.text(1000), texts.text(240)], settings);
    }
  },
};

function tenantRequest(
  atMs: number,
  tenant: string,
  [prompt, output]: readonly [TokenRun, TokenRun],
  { contextTokens }: TraceSettings,
): SimulatedRequest {
  const fitting = cut(prompt, contextTokens - LEAST_OUTPUT);
  return {
    arrivalMs: atMs,
    tenant,
    priority: 1,
    prompt: [fitting],
    output: cut(output, contextTokens - fitting.tokens),
    maxTokens: undefined,
    patienceMs: undefined,
  };
}

/** Jobs in the background that say how much they want, and questions of the highest class of the same key. */
const classes: Workload = {
  about: "jobs of the class background that say how much they want, and short questions of the class high",
  mean: { prompt: 700, output: 250 },
  perArrival: 1,
  *trace(settings) {
    const draws = createDraws(settings.seed);
    const texts = new Texts();
    let atMs = 0;
    for (let i = 0; i < settings.requests; i++) {
      atMs += (1000 / settings.perSecond) * draws.gap(settings.cv ?? 2);
      const urgent = draws.rng.next() < 0.4;
      const prompt = texts.text(drawLength(urgent ? byMean(60, 40) : { p50: 800, p90: 2500 }, draws));
      const output = texts.text(drawLength(urgent ? byMean(60, 40) : { p50: 250, p90: 900 }, draws));
      const request = tenantRequest(atMs, urgent ? "questions" : "jobs", [prompt, output], settings);
      yield {
        ...request,
        tenant: "anonymous",
        priority: urgent ? 0 : 3,
        // Some mean what they say, others allow for more.
        maxTokens: Math.ceil(request.output.tokens * (1 + draws.rng.next())),
      };
    }
  },
};

/** An agent's long conversation, and beside each turn a short request of its own about titles and summaries. */
const agentStorm: Workload = {
  about: "agents with one long conversation each and short requests beside every turn",
  mean: { prompt: 1000, output: 250 },
  perArrival: 16,
  *trace(settings) {
    const draws = createDraws(settings.seed);
    const texts = new Texts();
    const system = texts.text(1500);
    const agents = Math.max(1, Math.ceil(settings.requests / 16));
    let atMs = 0;
    const turn = (turnMs: number, history: readonly TokenRun[], left: number): SimulatedRequest => {
      const prompt = fit([...history, texts.text(400)], settings.contextTokens - LEAST_OUTPUT);
      const output = cut(texts.text(20 + draws.rng.below(780)), settings.contextTokens - lengthOf(prompt));
      return {
        arrivalMs: turnMs,
        tenant: "anonymous",
        priority: 1,
        prompt,
        output,
        maxTokens: undefined,
        patienceMs: undefined,
        next: (endMs, end) =>
          left === 0 || end !== "done" ? undefined : turn(endMs + 500, [...prompt, output], left - 1),
      };
    };
    for (let agent = 0; agent < agents; agent++) {
      atMs += (1000 / settings.perSecond) * draws.gap(settings.cv ?? 1);
      yield turn(atMs, [system], 7);
      let sideMs = atMs;
      for (let side = 0; side < 8; side++) {
        // In order of time, as a trace must be: those of one agent come close together.
        sideMs += draws.rng.next();
        const prompt = texts.text(200 + draws.rng.below(400));
        yield tenantRequest(sideMs, "anonymous", [prompt, texts.text(20 + draws.rng.below(80))], settings);
      }
      atMs = sideMs;
    }
  },
};

/** A fixed number of clients with requests of one size, as `weft bench` has. */
export function closedWorkload(promptTokens: number, outputTokens: number): Workload {
  return {
    about: `clients that ask again when they are answered: prompts of ${promptTokens}, answers of ${outputTokens} tokens`,
    mean: { prompt: promptTokens, output: outputTokens },
    perArrival: 1,
    *trace(settings) {
      const texts = new Texts();
      let left = settings.requests;
      const request = (atMs: number): SimulatedRequest => {
        left -= 1;
        const runs = [texts.text(promptTokens), texts.text(outputTokens)] as const;
        return {
          ...tenantRequest(atMs, "anonymous", runs, settings),
          maxTokens: outputTokens,
          next: (endMs) => (left > 0 ? request(endMs) : undefined),
        };
      };
      const clients = Math.min(settings.clients, settings.requests);
      for (let client = 0; client < clients; client++) yield request(0);
    },
  };
}

export const WORKLOADS: Readonly<Record<string, Workload>> = {
  ...Object.fromEntries(Object.entries(SHAPES).map(([name, shape]) => [name, shapedWorkload(shape)])),
  tenants,
  classes,
  "agent-storm": agentStorm,
};
