/** Why a server could not be reached, for every command that asks one. */

/** The innermost cause: fetch itself only says "fetch failed". */
export function describeConnectionError(error: unknown): string {
  let inner = error;
  for (let depth = 0; depth < 4 && inner instanceof Error && inner.cause !== undefined; depth++) {
    inner = inner.cause;
  }
  if (!(inner instanceof Error)) return String(inner);
  const code = "code" in inner && typeof inner.code === "string" ? `${inner.code}: ` : "";
  return code + inner.message;
}
