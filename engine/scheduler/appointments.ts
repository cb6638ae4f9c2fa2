/**
 * Those who were refused and told when to come back. Their places are kept until then: who comes later, and could be
 * let in only because they are away, does not go before them.
 *
 * A place counts as far as refused clients of its owner have come back lately, so that those who never do keep nobody
 * waiting. It needs its turn when it comes back and no sooner: until then slots that come free are for whoever is there,
 * as far as those who are next are not refused again for that, see forecast.ts.
 */
import { inLine, policyOf } from "./owners.ts";
import type { SchedulerState } from "./types.ts";

export interface Appointment {
  readonly visitor: string;
  readonly priority: number;
  /** Of the first refusal: who is refused again keeps it. */
  readonly order: number;
  /** Whether it was refused for what its owner has: it is in nobody else's way. */
  readonly ofOwner: boolean;
  /** When its turn is expected, in ms. */
  readonly dueMs: number;
  /** When it has been told to ask, which is no later. */
  readonly toldMs: number;
  /** Until when others wait for it. */
  readonly lateMs: number;
  /** Whether it has been given up: it comes late or never. */
  missed: boolean;
  /** When its request was let in; undefined until then. */
  cameMs: number | undefined;
}

/** Of one owner. */
export interface OwnerPlaces {
  /** By when they are due. */
  readonly list: Appointment[];
  /** Part of those asked back who come, smoothed; 0-1. */
  keptShare: number;
}

export interface Appointments {
  /** The first one has been known for longest. */
  readonly owners: Map<string, OwnerPlaces>;
  /** Of all of them. */
  count: number;
  nextOrder: number;
}

/** Who asks, as far as it can be told again; the same client with the same request is the same visitor. */
export interface Visitor {
  readonly tenant: string;
  readonly priority: number;
  /** Worked out where it matters alone; absent is nobody who has been here before. */
  readonly visitor?: (() => string) | undefined;
  /** The longest time that it keeps to when it is told to come back, in ms; absent is any. */
  readonly returnsWithinMs?: number | undefined;
}

/** In ms from now. */
interface Told {
  readonly nowMs: number;
  /** Until its turn, */
  readonly inMs: number;
  /** and until it is to ask. */
  readonly retryAfterMs: number;
  readonly ofOwner: boolean;
}

/** Bounds the work of a refusal. The owner with most gives way; who has none is told a time as well. */
export const MOST_APPOINTMENTS = 2000;
/** Of those who cannot be told apart: choices of one request, users who ask the same, a client that does not wait. */
export const MOST_OF_VISITOR = 16;
/** Owners who are remembered for how many of theirs come back. More than there can be with places. */
const MOST_OWNERS = 2 * MOST_APPOINTMENTS;
/** Others wait for somebody who is late for so long, */
const WAITED_FOR_MS = 300;
/** and after so long the place is gone. */
const KEPT_MS = 5000;
/** The choices of a request come one after another and go by one place. If one is refused all of them are taken back. */
const CHOICES_MS = 1000;
/** Weight of the newest one in the share of those who come back. */
const NEWEST = 0.05;

export function noAppointments(): Appointments {
  return { owners: new Map(), count: 0, nextOrder: 0 };
}

/** Gives up those who have not come, and forgets them and those who have come in the end. */
export function dropLapsed({ appointments }: SchedulerState, nowMs: number): void {
  if (appointments.count === 0) return;
  for (const places of appointments.owners.values()) {
    let gone = 0;
    for (const place of places.list) {
      if (!place.missed && place.cameMs === undefined && place.lateMs < nowMs) {
        place.missed = true;
        places.keptShare *= 1 - NEWEST;
      }
      if (isGone(place, nowMs)) gone += 1;
    }
    if (gone === 0) continue;
    const left = places.list.filter((place) => !isGone(place, nowMs));
    places.list.splice(0, Infinity, ...left);
    appointments.count -= gone;
  }
}

function isGone({ cameMs, toldMs }: Appointment, nowMs: number): boolean {
  return cameMs === undefined ? toldMs + KEPT_MS < nowMs : cameMs + CHOICES_MS < nowMs;
}

/** Keeps a place for who is refused, or goes on keeping it. */
export function makeAppointment(state: SchedulerState, who: Visitor, told: Told): void {
  const { appointments } = state;
  const visitor = who.visitor?.();
  if (visitor === undefined) return;
  const { nowMs, inMs, retryAfterMs, ofOwner } = told;
  const places = placesOf(appointments, who.tenant);
  const same = places.list.filter((place) => place.visitor === visitor);
  const asked = cameFor(same, nowMs);
  const mine = asked ?? (same.length < MOST_OF_VISITOR ? undefined : same.at(-1));
  if (mine === undefined && !haveRoom(appointments, places)) return;
  const dueMs = nowMs + inMs;
  const make = (order: number): void =>
    insert(appointments, places, {
      visitor,
      priority: who.priority,
      order,
      ofOwner,
      dueMs,
      toldMs: nowMs + retryAfterMs,
      // Clients of the header in whole seconds come up to one later than those of the other one.
      lateMs: nowMs + Math.ceil(retryAfterMs / 1000) * 1000 + WAITED_FOR_MS,
      missed: false,
      cameMs: undefined,
    });
  // One choice that is refused takes all of them back.
  for (const place of same)
    if (place !== mine && place.cameMs !== undefined) {
      remove(appointments, places, place);
      make(place.order);
    }
  if (mine !== undefined) {
    remove(appointments, places, mine);
    if (asked !== undefined && mine.cameMs === undefined) noteCame(places);
  }
  make(mine?.order ?? appointments.nextOrder++);
}

/** Who has been let in needs its place no more, as soon as all of its choices are in. */
export function endAppointment({ appointments }: SchedulerState, who: Visitor, nowMs: number): void {
  const places = appointments.owners.get(who.tenant);
  if (places === undefined || places.list.length === 0) return;
  const same = sameVisitor(places, who);
  // Before its time it is more likely a client that has not waited than another one that asks the same.
  const mine = cameFor(same, nowMs) ?? same.at(-1);
  if (mine === undefined || mine.cameMs !== undefined) return;
  mine.cameMs = nowMs;
  noteCame(places);
}

function noteCame(places: OwnerPlaces): void {
  places.keptShare += NEWEST * (1 - places.keptShare);
}

function sameVisitor({ list }: OwnerPlaces, who: Visitor): Appointment[] {
  if (list.length === 0) return [];
  const visitor = who.visitor?.();
  return list.filter((place) => place.visitor === visitor);
}

/** Of the places of a visitor, the earliest one that it has been asked back for, else one whose choices are coming in. */
function cameFor(same: readonly Appointment[], nowMs: number): Appointment | undefined {
  let first: Appointment | undefined;
  for (const place of same) {
    if (place.cameMs === undefined && place.toldMs > nowMs) continue;
    const here = place.cameMs === undefined;
    const best = first?.cameMs === undefined;
    if (first === undefined || (here === best ? place.order < first.order : here)) first = place;
  }
  return first;
}

function placesOf({ owners }: Appointments, tenant: string): OwnerPlaces {
  let places = owners.get(tenant);
  if (places !== undefined) return places;
  places = { list: [], keptShare: 1 };
  owners.set(tenant, places);
  if (owners.size > MOST_OWNERS)
    for (const [name, { list }] of owners)
      if (list.length === 0 && name !== tenant) {
        owners.delete(name);
        break;
      }
  return places;
}

/** Whether one more place may be kept; the owner with most of them loses the newest to one with fewer. */
function haveRoom(appointments: Appointments, places: OwnerPlaces): boolean {
  if (appointments.count < MOST_APPOINTMENTS) return true;
  let most = places;
  for (const others of appointments.owners.values()) if (others.list.length > most.list.length) most = others;
  if (most.list.length <= places.list.length + 1) return false;
  const newest = most.list.reduce((a, b) => (a.order > b.order ? a : b));
  remove(appointments, most, newest);
  return true;
}

function insert(appointments: Appointments, { list }: OwnerPlaces, place: Appointment): void {
  let at = list.length;
  while (at > 0 && (list[at - 1]?.dueMs ?? 0) > place.dueMs) at -= 1;
  list.splice(at, 0, place);
  appointments.count += 1;
}

function remove(appointments: Appointments, { list }: OwnerPlaces, place: Appointment): void {
  list.splice(list.indexOf(place), 1);
  appointments.count -= 1;
}

/** A place before somebody's turn. */
export interface PlaceAhead {
  /** From now, in ms; 0 where it should be here. */
  readonly dueMs: number;
  /** How likely it is taken; 0-1. */
  readonly share: number;
}

/** The places before somebody's turn. */
export interface PlacesAhead {
  /** Those of its own owner. */
  readonly own: number;
  /** All of them, as they are due. */
  readonly all: readonly PlaceAhead[];
}

const NONE: PlacesAhead = { own: 0, all: [] };

/**
 * Of those who were refused before it: its owner's, those of higher classes, and as many of each other owner as have
 * their turn meanwhile.
 */
export function placesAhead(state: SchedulerState, who: Visitor, nowMs: number): PlacesAhead {
  const { owners, count } = state.appointments;
  if (count === 0) return NONE;
  const mine = owners.get(who.tenant);
  const order = mine === undefined ? Infinity : (cameFor(sameVisitor(mine, who), nowMs)?.order ?? Infinity);
  const goesFirst = (place: Appointment): boolean =>
    place.order < order && place.priority <= who.priority && !place.missed && place.cameMs === undefined;
  const own = mine?.list.filter(goesFirst).length ?? 0;
  const waiting = inLine(state.owners.get(who.tenant), who.priority);
  const turns = (own + waiting + 1) / policyOf(state, who.tenant).weight;
  const all: PlaceAhead[] = [];
  for (const [tenant, places] of owners) {
    const { list, keptShare: share } = places;
    if (list.length === 0) continue;
    const others = places !== mine;
    const most = Math.ceil(turns * policyOf(state, tenant).weight);
    let left = others ? most - inLine(state.owners.get(tenant), who.priority) : Infinity;
    for (const place of list) {
      if (!goesFirst(place) || (others && place.ofOwner)) continue;
      if (others && place.priority === who.priority && left-- <= 0) continue;
      all.push({ dueMs: Math.max(0, place.dueMs - nowMs), share });
    }
  }
  return { own, all: all.sort((a, b) => a.dueMs - b.dueMs) };
}

/** How many of the places are expected to be taken. */
export function expectedOf(places: readonly PlaceAhead[]): number {
  return Math.round(places.reduce((sum, { share }) => sum + share, 0));
}

/** The same of an owner's. */
export function expectedOfOwner({ appointments }: SchedulerState, tenant: string, places: number): number {
  return Math.round(places * (appointments.owners.get(tenant)?.keptShare ?? 1));
}
