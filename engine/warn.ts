/** Words for the log of the server, which reads the standard error of its engines. */
export function warn(what: string, cause: unknown): void {
  process.stderr.write(`warn: ${what}: ${cause instanceof Error ? cause.message : String(cause)}\n`);
}
