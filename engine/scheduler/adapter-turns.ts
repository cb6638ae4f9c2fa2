/**
 * Whose turn it is among requests with different adapters: a native call computes with one set of them, so they take
 * the device one after the other.
 *
 * Deficit round robin on device time: in its turn a set gets a quantum, and has the device until what its calls have
 * really taken has used it up. What it takes more, since a step is not cut, it waits for the next time. So no set waits
 * for more than a quantum and a step of each other one, however many requests those have and however long theirs take.
 *
 * A set costs its owner nothing to make (any scale of an adapter is another one), so it must not bring it more of the
 * device: quanta are as long as their sets' shares, an owner's weight going to all its sets together, and what a set has
 * taken too much is a debt of its owners when it goes, which they pay by waiting or with their next one.
 */
import type { Running } from "./admission.ts";
import type { PlannedCall, ScheduledRequest, SchedulerState } from "./types.ts";

/** A turn is so many times as long as changing the adapters: that costs the device a tenth of its time at most. */
const SWITCHES_PER_TURN = 10;
/** Bounds nothing but a division. */
const LEAST_QUANTUM_MS = 0.1;

export interface AdapterTurns {
  /** The set with the device, by its key; empty is the model alone. */
  readonly current: string;
  /** Of all sets with something to compute, while there are several: the current one first, then whose turn is next. */
  readonly accounts: ReadonlyMap<string, TurnAccount>;
  /** What sets that are gone have taken too much, in ms above 0 by owner. */
  readonly debtsMs: ReadonlyMap<string, number>;
}

export interface TurnAccount {
  /** Device time that is left of its turns, in ms; what it took too much is below 0. */
  deficitMs: number;
  /** Its credit for prefill while it is not the current one. */
  readonly creditMs: number;
  readonly claim: Claim;
}

interface Claim {
  /** A set's part of the device; that of all sets together is 1. */
  readonly share: number;
  readonly owners: readonly string[];
}

export interface Turn {
  /** Those whose turn it is: all with the same adapters. */
  readonly running: readonly Running[];
  readonly turns: AdapterTurns;
  /** Its credit for prefill. */
  readonly creditMs: number;
  /** Time that changing the adapters takes before its first call. */
  readonly switchMs: number;
}

export const NO_TURNS: AdapterTurns = { current: "", accounts: new Map(), debtsMs: new Map() };

/** Empty is the model alone. */
export function adapterKeyOf({ adapters }: Pick<ScheduledRequest, "adapters">): string {
  return adapters?.key ?? "";
}

/** @param active Everything that could be computed in this step. */
export function nextTurn(state: SchedulerState, active: readonly Running[], why: string[]): Turn {
  const { current } = state.turns;
  const usual = { running: active, turns: state.turns, creditMs: state.prefillCreditMs, switchMs: 0 };
  // Nearly always, and every step asks.
  const only = active.every(({ request }) => adapterKeyOf(request) === current);
  if (only && state.turns.accounts.size === 0) return usual;
  const { accounts, debtsMs } = accountsOf(state, active);
  const chosen = accounts.size < 2 ? (accounts.keys().next().value ?? current) : chooseTurn(state, accounts);
  const running =
    accounts.size < 2 ? active : active.filter(({ request }) => adapterKeyOf(request) === chosen);
  if (chosen === current) return { ...usual, running, turns: turnsOf(chosen, accounts, debtsMs) };
  why.push(chosen === "" ? "the model alone has its turn" : `adapters ${chosen} have their turn`);
  const left = accounts.get(current);
  if (left !== undefined) accounts.set(current, { ...left, creditMs: state.prefillCreditMs });
  const { creditMs = 0 } = accounts.get(chosen) ?? {};
  const switchMs = state.cost.switchMs ?? 0;
  return { running, turns: turnsOf(chosen, accounts, debtsMs), creditMs, switchMs };
}

/** Takes what a call has cost from the account of its set; who is in debt has waited so long. */
export function chargeTurn(
  state: SchedulerState,
  { adapters }: Pick<PlannedCall, "adapters">,
  observedMs: number,
): void {
  const { turns } = state;
  const account = turns.accounts.get(adapters?.key ?? "");
  if (account !== undefined) account.deficitMs -= observedMs;
  if (turns.debtsMs.size === 0) return;
  const left = [...turns.debtsMs].map(([owner, ms]) => [owner, ms - observedMs] as const);
  state.turns = { ...turns, debtsMs: new Map(left.filter(([, ms]) => ms > 0)) };
}

/** Copies, in the order of their turns; sets with nothing to do lose theirs, new ones come last. */
function accountsOf(
  state: SchedulerState,
  active: readonly Running[],
): { accounts: Map<string, TurnAccount>; debtsMs: ReadonlyMap<string, number> } {
  const claims = claimsOf(state, active);
  const accounts = new Map<string, TurnAccount>();
  const debtsMs = new Map(state.turns.debtsMs);
  for (const [key, account] of state.turns.accounts) {
    const claim = claims.get(key);
    if (claim !== undefined) accounts.set(key, { ...account, claim });
    else if (account.deficitMs < 0) {
      const { owners } = account.claim;
      for (const owner of owners)
        debtsMs.set(owner, (debtsMs.get(owner) ?? 0) - account.deficitMs / owners.length);
    }
  }
  for (const [key, claim] of claims) {
    if (accounts.has(key)) continue;
    const debtors = claims.size < 2 ? [] : claim.owners;
    const owedMs = debtors.reduce((sum, owner) => sum + (debtsMs.get(owner) ?? 0), 0);
    for (const owner of debtors) debtsMs.delete(owner);
    accounts.set(key, { deficitMs: -owedMs, creditMs: 0, claim });
  }
  return { accounts, debtsMs };
}

/** Each owner's weight, dealt out among its sets. */
function claimsOf({ owners }: SchedulerState, active: readonly Running[]): Map<string, Claim> {
  const setsOf = new Map<string, Set<string>>();
  for (const { request } of active) {
    const sets = setsOf.get(request.tenant);
    if (sets === undefined) setsOf.set(request.tenant, new Set([adapterKeyOf(request)]));
    else sets.add(adapterKeyOf(request));
  }
  const weightOf = (tenant: string): number => owners.get(tenant)?.policy.weight ?? 1;
  const allWeights = [...setsOf.keys()].reduce((sum, tenant) => sum + weightOf(tenant), 0);
  const claims = new Map<string, Claim>();
  for (const [tenant, sets] of setsOf) {
    const each = weightOf(tenant) / sets.size / allWeights;
    for (const key of sets) {
      const { share, owners: others } = claims.get(key) ?? { share: 0, owners: [] };
      claims.set(key, { share: share + each, owners: [...others, tenant] });
    }
  }
  return claims;
}

/** The current set as long as it has time left; else the first that has some when quanta are dealt out in turn. */
function chooseTurn({ cost, config, turns }: SchedulerState, accounts: Map<string, TurnAccount>): string {
  const { current } = turns;
  if ((accounts.get(current)?.deficitMs ?? 0) > 0) return current;
  // Together the others' turns must not take longer than anybody wants to wait for a token.
  const longestMs = config.itlTargetMs / (accounts.size - 1);
  const usualMs = Math.min(SWITCHES_PER_TURN * (cost.switchMs ?? 0), longestMs);
  const quantumOf = (key: string): number =>
    Math.max(LEAST_QUANTUM_MS, usualMs) * (accounts.get(key)?.claim.share ?? 0) * accounts.size;
  const waiting = [...accounts.keys()].filter((key) => key !== current);
  const order = accounts.has(current) ? [...waiting, current] : waiting;
  /** Times its turn has to come before it has some time. */
  const turnsNeeded = (key: string): number =>
    Math.floor(Math.max(0, -(accounts.get(key)?.deficitMs ?? 0)) / quantumOf(key)) + 1;
  const rounds = Math.min(...order.map(turnsNeeded));
  const chosen = order.find((key) => turnsNeeded(key) === rounds) ?? current;
  let dealt = rounds;
  for (const key of order) {
    const account = accounts.get(key);
    if (account !== undefined) account.deficitMs += dealt * quantumOf(key);
    // Those behind the chosen one have not had their turn in the last round.
    if (key === chosen) dealt -= 1;
  }
  return chosen;
}

function turnsOf(
  current: string,
  accounts: ReadonlyMap<string, TurnAccount>,
  debtsMs: ReadonlyMap<string, number>,
): AdapterTurns {
  // Nobody takes turns with itself.
  if (accounts.size < 2) return { current, accounts: NO_TURNS.accounts, debtsMs };
  const keys = [...accounts.keys()];
  const at = keys.indexOf(current);
  const order = [...keys.slice(at), ...keys.slice(0, at)];
  const ordered = new Map(order.map((key) => [key, accounts.get(key)] as [string, TurnAccount]));
  return { current, accounts: ordered, debtsMs };
}
