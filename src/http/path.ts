/** The path of a request: as it was asked for, and as it is routed. */

/** Cut out of the text: not every host that the adapter takes is one to the URL parser. */
export function askedPath(url: string): string {
  const start = url.indexOf("/", url.indexOf("://") + 3);
  return start === -1 ? "/" : (/^[^?#]*/.exec(url.slice(start))?.[0] ?? "/");
}

/**
 * The path that is routed and checked for a key: double slashes are one, one at the end is none, and
 * `/v1` is optional, because people write base URLs in all these ways. Clients of Azure put `/openai` before it.
 */
export function routedPath(url: string): string {
  const collapsed = askedPath(url)
    .replace(/\/{2,}/g, "/")
    .replace(/(?<=.)\/$/, "");
  return collapsed.replace(/^(?:\/openai)?(?:\/v1)?(?=\/)/, "");
}
