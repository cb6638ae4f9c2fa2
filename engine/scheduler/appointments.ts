/**
 * Those who were refused and told when to come back. Their places are kept until then: who comes later, and could be
 * let in only because they are away, does not go before them.
 *
 * A place counts as far as refused clients have come back lately, so that those who never do keep nobody waiting. It
 * needs its turn when it comes back and no sooner: until then slots that come free are for whoever is there.
 */
import { inLine, policyOf } from "./owners.ts";
import type { SchedulerState } from "./types.ts";

export interface Appointment {
  readonly visitor: string;
  readonly tenant: string;
  readonly priority: number;
  /** Of the first refusal: who is refused again keeps it. */
  readonly order: number;
  /** When it has been told to come back, in ms. */
  readonly dueMs: number;
  /** Whether it has been given up: it comes late or never. */
  missed: boolean;
}

export interface Appointments {
  /** By when they are due. */
  readonly list: Appointment[];
  nextOrder: number;
  /** Part of those asked back who come, smoothed; 0-1. */
  keptShare: number;
}

/** Who asks, as far as it can be told again; the same client with the same request is the same visitor. */
export interface Visitor {
  readonly tenant: string;
  readonly priority: number;
  /** Absent is nobody who has been here before. */
  readonly visitor?: string | undefined;
}

/** Bounds the work of a refusal. Those beyond are told a time as well, and have no place. */
export const MOST_APPOINTMENTS = 2000;
/** Others wait for somebody who is late for so long, */
const WAITED_FOR_MS = 300;
/** and after so long the place is gone. */
const KEPT_MS = 5000;
/** Weight of the newest one in the share of those who come back. */
const NEWEST = 0.05;

export function noAppointments(): Appointments {
  return { list: [], nextOrder: 0, keptShare: 1 };
}

/** Gives up those who have not come, and forgets them in the end. */
function dropLapsed({ appointments }: SchedulerState, nowMs: number): void {
  const { list } = appointments;
  let lapsed = 0;
  for (const place of list) {
    if (place.dueMs + WAITED_FOR_MS >= nowMs) break;
    if (!place.missed) appointments.keptShare *= 1 - NEWEST;
    place.missed = true;
    if (place.dueMs + KEPT_MS < nowMs) lapsed += 1;
  }
  list.splice(0, lapsed);
}

/** Keeps a place for who is refused, or goes on keeping it; of several of one visitor the first. */
export function makeAppointment(state: SchedulerState, who: Visitor, dueMs: number): void {
  const { visitor, tenant, priority } = who;
  if (visitor === undefined) return;
  const { appointments } = state;
  const { list } = appointments;
  const kept = takePlace(appointments, who);
  if (kept === undefined && list.length >= MOST_APPOINTMENTS) return;
  const order = kept?.order ?? appointments.nextOrder++;
  let at = list.length;
  while (at > 0 && (list[at - 1]?.dueMs ?? 0) > dueMs) at -= 1;
  list.splice(at, 0, { visitor, tenant, priority, order, dueMs, missed: false });
}

/** Who has been let in needs no place any more. */
export function endAppointment({ appointments }: SchedulerState, who: Visitor): void {
  takePlace(appointments, who);
}

/** Who asks again has come back, let in or not. */
function takePlace(appointments: Appointments, who: Visitor): Appointment | undefined {
  const { list, keptShare } = appointments;
  const first = firstOf(list, who);
  if (first === undefined) return undefined;
  list.splice(list.indexOf(first), 1);
  appointments.keptShare += NEWEST * (1 - keptShare);
  return first;
}

/** The earliest place of a visitor, who may have several that cannot be told apart. */
function firstOf(list: readonly Appointment[], { visitor, tenant }: Visitor): Appointment | undefined {
  if (visitor === undefined) return undefined;
  let first: Appointment | undefined;
  for (const place of list)
    if (
      place.visitor === visitor &&
      place.tenant === tenant &&
      (first === undefined || place.order < first.order)
    )
      first = place;
  return first;
}

/** The places before somebody's turn. */
export interface PlacesAhead {
  /** Of its own owner. */
  readonly own: number;
  /** When each of all of them is due, ascending, in ms from now; 0 where it should be here. */
  readonly dueMs: readonly number[];
}

const NONE: PlacesAhead = { own: 0, dueMs: [] };

/**
 * Of those who were refused before it: its owner's, those of higher classes, and as many of each other owner as have
 * their turn meanwhile.
 */
export function placesAhead(state: SchedulerState, who: Visitor, nowMs: number): PlacesAhead {
  dropLapsed(state, nowMs);
  const { list } = state.appointments;
  if (list.length === 0) return NONE;
  const order = firstOf(list, who)?.order ?? Infinity;
  const ahead = list.filter(
    (place) => place.order < order && place.priority <= who.priority && !place.missed,
  );
  const own = ahead.filter(({ tenant }) => tenant === who.tenant).length;
  const waiting = inLine(state.owners.get(who.tenant), who.priority);
  const turns = (own + waiting + 1) / policyOf(state, who.tenant).weight;
  const left = new Map<string, number>();
  const dueMs: number[] = [];
  for (const { tenant, priority, dueMs: atMs } of ahead) {
    if (tenant !== who.tenant && priority === who.priority) {
      const share = Math.ceil(turns * policyOf(state, tenant).weight);
      const most = left.get(tenant) ?? share - inLine(state.owners.get(tenant), priority);
      if (most <= 0) continue;
      left.set(tenant, most - 1);
    }
    dueMs.push(Math.max(0, atMs - nowMs));
  }
  return { own, dueMs };
}

/** How many of the places are expected to be taken. */
export function expectedOf({ appointments }: SchedulerState, places: number): number {
  return Math.round(places * appointments.keptShare);
}
