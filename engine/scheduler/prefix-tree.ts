/**
 * A radix tree over the tokens of slots, one for each cache key: what a text has in common with every slot is found in one
 * walk along the text, however long the prefix is that the slots share.
 *
 * Each slot is a marker at a node whose path is its first tokens. What it holds beyond them is compared directly, and
 * becomes part of the tree once a text has had enough in common with it: a slot that decodes costs nothing, and what
 * nobody asks for is not there. Where a slot loses tokens its marker moves towards the root.
 */
import type { Slot } from "./types.ts";

/** How many of a slot's first tokens are those that the tree has seen. It changes with lookups, which change nothing else. */
export class PrefixMark {
  #seen = Infinity;

  /** The slot has no more than its first `length` tokens, or others behind them. */
  cut(length: number): void {
    if (length < this.#seen) this.#seen = length;
  }

  get seen(): number {
    return this.#seen;
  }

  /** The tree knows of all cuts. */
  renew(): void {
    this.#seen = Infinity;
  }
}

type MarkedSlot = Pick<Slot, "id" | "tokens" | "length" | "cacheKey" | "mark">;

interface Node {
  /** Undefined for a root. */
  parent: Node | undefined;
  /** Of its parent's path it is the continuation; empty for a root only. */
  run: Uint32Array;
  /** Tokens of its whole path. */
  readonly end: number;
  /** By the first token of their runs. */
  readonly children: Map<number, Node>;
  /** Slots that are here. */
  slots: number;
  /** The lookup that has seen it last, and how much of its path the text had. */
  lookup: number;
  common: number;
}

/** Where a slot is. */
interface Place {
  node: Node;
  cacheKey: string;
}

/** Tokens of a slot beyond its marker that a text may have without the marker being moved: nodes take longer than these. */
const MOST_BEYOND = 16;

export class PrefixTree {
  readonly #slots: readonly MarkedSlot[];
  readonly #roots = new Map<string, Node>();
  /** By slot. */
  readonly #places: (Place | undefined)[];
  #lookups = 0;

  constructor(slots: readonly MarkedSlot[]) {
    this.#slots = slots;
    this.#places = slots.map(() => undefined);
  }

  /** By slot, how many tokens it has in common with the text's first `most`; 0 for slots of another key. */
  commonTokens(cacheKey: string, tokens: Uint32Array, most: number): number[] {
    for (const slot of this.#slots) this.#follow(slot);
    const root = this.#roots.get(cacheKey);
    if (root === undefined) return this.#slots.map(() => 0);
    this.#walk(root, tokens, most);
    const moving: { readonly place: Place; readonly common: number }[] = [];
    const found = this.#slots.map((slot) => {
      const place = this.#places[slot.id];
      if (place?.cacheKey !== cacheKey) return 0;
      const { end } = place.node;
      let common = this.#commonOf(place.node);
      if (common < end) return common;
      const last = Math.min(most, slot.length);
      while (common < last && tokens[common] === slot.tokens[common]) common++;
      if (common - end > MOST_BEYOND) moving.push({ place, common });
      return common;
    });
    for (const { place, common } of moving) this.#move(place, nodeAt(place.node, tokens, common));
    return found;
  }

  /** Whether every marker is where its slot's tokens lead, and nothing else is there. Takes long. */
  isRight(): boolean {
    const at = new Map<Node, number>();
    for (const slot of this.#slots) {
      const place = this.#places[slot.id];
      if (place === undefined) continue;
      const { node } = place;
      at.set(node, (at.get(node) ?? 0) + 1);
      // What has been cut since, or is of another key now, is found out with the next lookup.
      if (place.cacheKey === slot.cacheKey && !leadsTo(node, slot)) return false;
    }
    const isUseful = (node: Node): boolean => {
      if (node.slots !== (at.get(node) ?? 0)) return false;
      const children = [...node.children];
      if (node.slots === 0 && children.length < (node.parent === undefined ? 1 : 2)) return false;
      return children.every(
        ([first, child]) =>
          child.parent === node &&
          child.run[0] === first &&
          child.end === node.end + child.run.length &&
          isUseful(child),
      );
    };
    return [...this.#roots.values()].every(isUseful);
  }

  /** Moves the marker of a slot that has lost tokens, or is of another key now. */
  #follow({ id, cacheKey, mark }: MarkedSlot): void {
    const place = this.#places[id];
    if (place?.cacheKey === cacheKey) {
      let { node } = place;
      while (node.parent !== undefined && node.end > mark.seen) node = node.parent;
      if (node !== place.node) this.#move(place, node);
    } else {
      const root = this.#roots.get(cacheKey) ?? newNode(undefined, new Uint32Array(0));
      this.#roots.set(cacheKey, root);
      root.slots += 1;
      this.#places[id] = { node: root, cacheKey };
      if (place !== undefined) this.#leave(place);
    }
    mark.renew();
  }

  #move(place: Place, node: Node): void {
    const before = { ...place };
    node.slots += 1;
    place.node = node;
    this.#leave(before);
  }

  /** Nodes that then tell nothing go. */
  #leave({ node, cacheKey }: Place): void {
    node.slots -= 1;
    let left = node;
    while (left.slots === 0 && left.children.size === 0) {
      const { parent, run } = left;
      if (parent === undefined) {
        this.#roots.delete(cacheKey);
        return;
      }
      parent.children.delete(run[0] ?? 0);
      left = parent;
    }
    if (left.slots === 0 && left.children.size === 1 && left.parent !== undefined) joinWithChild(left);
  }

  /** Notes of the nodes along the text how much of them it has. */
  #walk(root: Node, tokens: Uint32Array, most: number): void {
    this.#lookups += 1;
    let node: Node | undefined = root;
    let common = 0;
    while (node !== undefined) {
      common += commonRun(node.run, tokens, common, most);
      node.lookup = this.#lookups;
      node.common = common;
      node = common < node.end || common === most ? undefined : node.children.get(tokens[common] ?? 0);
    }
  }

  /** Of nodes beside the walk: as much as of the last one above them. Each is looked at once. */
  #commonOf(node: Node): number {
    if (node.lookup !== this.#lookups) {
      node.common = node.parent === undefined ? 0 : this.#commonOf(node.parent);
      node.lookup = this.#lookups;
    }
    return node.common;
  }
}

function newNode(parent: Node | undefined, run: Uint32Array): Node {
  const end = (parent?.end ?? 0) + run.length;
  return { parent, run, end, children: new Map(), slots: 0, lookup: 0, common: 0 };
}

/** How many tokens of the run the text has from `from` on, of its first `most`. */
function commonRun(run: Uint32Array, tokens: Uint32Array, from: number, most: number): number {
  const length = Math.min(run.length, most - from);
  let i = 0;
  while (i < length && run[i] === tokens[from + i]) i++;
  return i;
}

/** The node for the text's first `end` tokens, made where there is none. @param node Of which the text has the whole path. */
function nodeAt(node: Node, tokens: Uint32Array, end: number): Node {
  let at = node;
  while (at.end < end) {
    const child = at.children.get(tokens[at.end] ?? 0);
    // A copy: the text may be a slot's, and go.
    if (child === undefined) return addChild(at, tokens.slice(at.end, end));
    const common = commonRun(child.run, tokens, at.end, end);
    at = common === child.run.length ? child : splitAt(child, common);
  }
  return at;
}

function addChild(parent: Node, run: Uint32Array): Node {
  const child = newNode(parent, run);
  parent.children.set(run[0] ?? 0, child);
  return child;
}

/** A node for the first tokens of another one's run. */
function splitAt(node: Node, length: number): Node {
  const { parent, run } = node;
  if (parent === undefined) return node;
  const upper = addChild(parent, run.slice(0, length));
  node.parent = upper;
  node.run = run.slice(length);
  upper.children.set(node.run[0] ?? 0, node);
  return upper;
}

/** A node that has one child only gives it its own run. */
function joinWithChild(node: Node): void {
  const { parent, run } = node;
  if (parent === undefined) return;
  for (const child of node.children.values()) {
    const joined = new Uint32Array(run.length + child.run.length);
    joined.set(run);
    joined.set(child.run, run.length);
    child.run = joined;
    child.parent = parent;
    parent.children.set(joined[0] ?? 0, child);
  }
}

/** Whether the path of the node is what the slot begins with, as far as nothing of it has been cut since. */
function leadsTo(node: Node, { tokens, length, mark }: MarkedSlot): boolean {
  if (Math.min(node.end, mark.seen) > length) return false;
  for (let at: Node | undefined = node; at !== undefined; at = at.parent) {
    const start = at.end - at.run.length;
    const end = Math.min(at.end, mark.seen);
    if (at.run.some((token, i) => start + i < end && tokens[start + i] !== token)) return false;
  }
  return true;
}
