/** Asks a model hub over HTTP. The hub's token goes to the hub's own origin alone, wherever its redirects lead. */
import { HubError, hubRefusal } from "./hub-error.ts";

export interface Hub {
  /** Base URL, ending in a slash. */
  readonly endpoint: string;
  /** For private and gated repositories. */
  readonly token: string | undefined;
  /** Passes the time between two tries; hears why. */
  readonly wait: (ms: number, reason: string) => Promise<void>;
}

export interface HubQuestion {
  /** Path under the endpoint, encoded. */
  readonly path: string;
  /** Where a person can look at what is asked for. */
  readonly page: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

export interface HubAnswer {
  /** 2xx or 416; the end of all redirects. */
  readonly response: Response;
  /** What the hub itself says of a file whose bytes are elsewhere. */
  readonly sha256: string | undefined;
  readonly bytes: number | undefined;
  /** Which revision of the repository it gives. */
  readonly revision: string | undefined;
}

const MAX_REDIRECTS = 10;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
/** A range that begins where the file ends: for the caller to read. */
export const RANGE_NOT_SATISFIABLE = 416;

/** @throws {HubError} When it cannot be reached, refuses, or leads nowhere. */
export async function askHub(hub: Hub, question: HubQuestion): Promise<HubAnswer> {
  const succeeded = (answer: Followed): HubAnswer => {
    const isEnd = answer.status === RANGE_NOT_SATISFIABLE && question.headers?.["range"] !== undefined;
    if (answer.response.ok || isEnd) return answer;
    throw answer.refusal();
  };
  const answer = await follow(hub, question, hub.token);
  // A token that has expired must not hide what everybody may read.
  if (answer.status === 401 && hub.token !== undefined) {
    try {
      return await follow(hub, question, undefined).then(succeeded);
    } catch {
      // Told of the token, the user knows more.
    }
  }
  return succeeded(answer);
}

interface Followed extends HubAnswer {
  readonly status: number;
  readonly refusal: () => HubError;
}

async function follow(hub: Hub, question: HubQuestion, token: string | undefined): Promise<Followed> {
  const home = new URL(hub.endpoint).origin;
  let url = new URL(question.path, hub.endpoint);
  let sha256: string | undefined;
  let bytes: number | undefined;
  let revision: string | undefined;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const isHub = url.origin === home;
    const response = await request(url, question, isHub ? token : undefined);
    if (isHub) {
      sha256 = /^"?([0-9a-f]{64})"?$/.exec(response.headers.get("x-linked-etag") ?? "")?.[1] ?? sha256;
      bytes = numberIn(response.headers.get("x-linked-size")) ?? bytes;
      revision = /^[0-9a-f]{40}$/.exec(response.headers.get("x-repo-commit") ?? "")?.[0] ?? revision;
    }
    if (!REDIRECTS.has(response.status)) {
      if (!response.ok) await response.body?.cancel();
      const refusal = (): HubError =>
        isHub ? hubRefusal(response, { token, page: question.page }) : storageRefusal(url, response.status);
      return { response, status: response.status, sha256, bytes, revision, refusal };
    }
    await response.body?.cancel();
    url = nextUrl(url, response.headers.get("location"));
  }
  throw new HubError({
    reason: `the hub redirects more than ${MAX_REDIRECTS} times`,
    advice: "Try again later.",
  });
}

async function request(url: URL, question: HubQuestion, token: string | undefined): Promise<Response> {
  const headers: Record<string, string> = {
    // A hub lists the files for llama.cpp to this name only.
    "user-agent": "llama-cpp",
    // Lengths and ranges are those of the file, not of a compressed form of it.
    "accept-encoding": "identity",
    ...question.headers,
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  };
  try {
    return await fetch(url, { headers, redirect: "manual", signal: question.signal });
  } catch (cause) {
    throw cutOff(`${url.host} cannot be reached (${wordsOf(cause)})`, cause);
  }
}

/** Something between here and there that may be over in a moment. */
export function cutOff(reason: string, cause: unknown): HubError {
  return new HubError(
    { reason, advice: "Check the network and try again.", again: { afterMs: undefined } },
    { cause },
  );
}

/** What `fetch` says is "fetch failed"; why is in its cause. */
export function wordsOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  if (cause.cause instanceof Error) return wordsOf(cause.cause);
  return "code" in cause && typeof cause.code === "string" ? cause.code : cause.message;
}

/** Signed addresses expire, so that asking the hub for another one may help. */
function storageRefusal(url: URL, status: number): HubError {
  return new HubError({
    reason: `the storage that the hub points to, ${url.host}, answers ${status}`,
    advice: "Try again later.",
    again: { afterMs: undefined },
  });
}

function nextUrl(from: URL, location: string | null): URL {
  if (location !== null && URL.canParse(location, from.href)) {
    const next = new URL(location, from);
    if (next.protocol === "https:" || (next.protocol === "http:" && from.protocol === "http:")) return next;
  }
  throw new HubError({
    reason: `the hub redirects to ${JSON.stringify((location ?? "").slice(0, 200))}, which is no ${from.protocol} address`,
    advice: "Check HF_ENDPOINT.",
  });
}

function numberIn(text: string | null): number | undefined {
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}
