/** The real clock and the real ids. */
import { randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import type { Clock, Ids } from "./deps.ts";

const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** 24 base62 digits are 142 bits, the length OpenAI's ids have at least. */
const ID_DIGITS = 24;

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  epochSeconds: () => Math.floor(Date.now() / 1000),
};

export const randomIds: Ids = {
  next: (prefix) => prefix + Array.from(randomBytes(ID_DIGITS), (byte) => BASE62[byte % 62]).join(""),
};
