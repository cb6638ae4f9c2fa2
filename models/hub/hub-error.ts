/** Why a hub does not give a file: what it answered, what the user can do about it, and whether asking again may help. */

export interface HubTrouble {
  /** What happened, as the end of a sentence: "the hub answers 404". */
  readonly reason: string;
  /** What to do next, whole sentences. */
  readonly advice: string;
  /** Present where the next try may go better; how long to leave it alone first, undefined for as long as usual. */
  readonly again?: { readonly afterMs: number | undefined };
  /** There is no such model. */
  readonly isUnknown?: boolean;
}

export class HubError extends Error {
  override readonly name = "HubError";
  readonly trouble: HubTrouble;

  constructor(trouble: HubTrouble, options?: ErrorOptions) {
    super(trouble.reason, options);
    this.trouble = trouble;
  }
}

const THE_TOKEN = "the token (HF_TOKEN, or that of `hf auth login`)";

/** What to say of an answer of the hub itself that is none of success. */
export function hubRefusal(
  answer: Response,
  question: { token: string | undefined; page: string },
): HubError {
  const { status } = answer;
  const reason = `the hub answers ${status}`;
  const { token, page } = question;
  const known = token !== undefined;
  if (status === 401) {
    const advice = known
      ? `Either ${THE_TOKEN} is wrong or expired, or the name is wrong: look at ${page}.`
      : "Check the name; for a private or gated model set HF_TOKEN.";
    return new HubError({ reason, advice });
  }
  if (status === 403) {
    const whose = known ? `as its owner: ${THE_TOKEN} must be allowed to read it` : "and set HF_TOKEN";
    return new HubError({ reason, advice: `If the model is gated, accept its licence on ${page} ${whose}.` });
  }
  if (status === 404) {
    return new HubError({ reason, advice: `Check the name on ${page}.`, isUnknown: true });
  }
  if (status === 429) {
    const afterMs = retryAfterMs(answer.headers);
    const when = afterMs === undefined ? "later" : `in ${Math.ceil(afterMs / 1000)} s`;
    const more = known ? "" : "; it allows more to those who set HF_TOKEN";
    return new HubError({
      reason: `${reason}, too many requests`,
      advice: `Try again ${when}${more}.`,
      again: { afterMs },
    });
  }
  if (status >= 500 || status === 408) {
    const again = { afterMs: retryAfterMs(answer.headers) };
    return new HubError({ reason, advice: "The trouble is on its side; try again later.", again });
  }
  return new HubError({ reason, advice: `Check the name on ${page}.` });
}

/** `Retry-After` in either of its forms, or the end of the window in `RateLimit` (`"api";r=0;t=42`). */
function retryAfterMs(headers: Headers): number | undefined {
  const after = headers.get("retry-after");
  const seconds =
    /^\d{1,6}$/.exec(after ?? "")?.[0] ?? /;\s*t=(\d{1,6})\b/.exec(headers.get("ratelimit") ?? "")?.[1];
  if (seconds !== undefined) return Number(seconds) * 1000;
  const date = Date.parse(after ?? "");
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}
