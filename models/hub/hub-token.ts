/** Finds the user's token for the hub where the hub's own tools keep it. */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

/** `HF_TOKEN`, else what `hf auth login` has left in `HF_TOKEN_PATH` or `HF_HOME/token`; undefined without any. */
export async function hubToken(
  env: Readonly<Record<string, string | undefined>>,
): Promise<string | undefined> {
  const cache = env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const path = env["HF_TOKEN_PATH"] ?? join(env["HF_HOME"] ?? join(cache, "huggingface"), "token");
  const token = env["HF_TOKEN"] ?? (await readFile(path, "utf8").catch(() => ""));
  // A header cannot hold anything else, and a token is nothing else.
  return /^[\x21-\x7e]+$/.exec(token.trim())?.[0];
}
