/** `weft pull` and `weft list`: fetches models and shows which are here. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { catalogue } from "../../models/catalogue.ts";
import { modelCacheDirectory } from "../../models/download.ts";
import { readGgufHeader } from "../../models/gguf-header.ts";
import { resolveModel } from "../../models/resolve.ts";
import { ExitCode } from "./exit-codes.ts";
import { terminalProgress } from "./terminal-progress.ts";

/** @throws {ModelFileError} When the model cannot be found or fetched. */
export async function runPull(name: string): Promise<ExitCode> {
  const model = await resolveModel(name, { reporter: terminalProgress() });
  const header = readGgufHeader(model.path);
  process.stdout.write(
    `${model.id}: ${header.architecture}, ${megabytes(header.fileBytes)}, ${model.path}\n`,
  );
  return ExitCode.ok;
}

/** Prints the catalogue and the other models in the cache folder, one line each. */
export function runList(): ExitCode {
  const directory = modelCacheDirectory(process.env);
  const cached = namesIn(directory);
  const lines = catalogue.map(({ id, description, source }) => {
    const here = source.kind === "embedded" || cached.includes(source.fileName);
    return `${id.padEnd(12)} ${here ? "here   " : "to pull"}  ${description}`;
  });
  const published = catalogue.flatMap(({ source }) => (source.kind === "published" ? [source.fileName] : []));
  const others = cached.filter((name) => !published.includes(name) && !/\.(part|lock)$/.test(name));
  for (const name of others) lines.push(`${name}  ${megabytes(bytesOf(join(directory, name)))}`);
  process.stdout.write(`${lines.join("\n")}\n\nModels are kept in ${directory}.\n`);
  return ExitCode.ok;
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    // Nothing was pulled yet.
    return [];
  }
}

/** Bytes of a file, or of the files directly in a folder. */
function bytesOf(path: string): number {
  const entry = statSync(path);
  if (!entry.isDirectory()) return entry.size;
  return namesIn(path).reduce((sum, name) => sum + statSync(join(path, name)).size, 0);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
