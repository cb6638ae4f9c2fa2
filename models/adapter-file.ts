/** Holds a LoRA adapter's file against the model that it is to change, before native code sees either. */
import { readGgufHeader } from "./gguf-header.ts";
import type { GgufHeader } from "./gguf-header.ts";
import { ModelFileError } from "./model-file-error.ts";

/** Each weight is the product of two thin ones. */
const HALVES = [".lora_a", ".lora_b"] as const;
/** The runtime passes over these. */
const NORM = /_norm\.weight$/;
/** Rows are looked up here rather than multiplied, so that the first half is turned around. */
const EMBEDDINGS = "token_embd.weight";

/**
 * @param model Of the model, with all of its parts.
 * @throws {ModelFileError} `model_not_found`, or `model_invalid` with what does not fit.
 */
export function checkAdapterFile(path: string, model: GgufHeader): void {
  const header = readGgufHeader(path, "adapter");
  const wrong = wrongKind(header, model) ?? wrongTensor(header.shapes, model.shapes);
  if (wrong !== undefined) throw new ModelFileError("model_invalid", `${path} ${wrong}.`);
}

function wrongKind({ adapter, architecture, shapes }: GgufHeader, model: GgufHeader): string | undefined {
  if (adapter === undefined) return "is no LoRA adapter but a model; serve it with --model";
  if (adapter.type !== "lora")
    return `is an adapter of the type ${adapter.type ?? "none"}; only lora can be applied`;
  if (adapter.invoked) return "is an adapter that has to be invoked (aLoRA), which cannot be applied";
  if (architecture !== model.architecture)
    return `was made for a ${architecture} model, and this one is ${model.architecture}`;
  return shapes.size === 0 ? "has no weights" : undefined;
}

type Shapes = GgufHeader["shapes"];

function wrongTensor(own: Shapes, ofModel: Shapes): string | undefined {
  for (const name of own.keys()) {
    const half = HALVES.find((ending) => name.endsWith(ending));
    if (half === undefined && NORM.test(name)) continue;
    if (half === undefined) return `has the tensor ${name}, which is no part of a LoRA adapter`;
    const weight = name.slice(0, -half.length);
    const [a, b] = HALVES.map((ending) => own.get(weight + ending));
    const changed = ofModel.get(weight);
    if (changed === undefined) return `was made for another model: this one has no ${weight}`;
    if (a === undefined || b === undefined) return `has only a half of ${weight}`;
    const fit = weight === EMBEDDINGS ? fits(a.toReversed(), b, changed.toReversed()) : fits(a, b, changed);
    if (!fit)
      return `was made for another model: ${weight} is ${changed.join(" by ")} in this one, and of another size in the adapter`;
  }
  return undefined;
}

/** What the runtime holds against each other, and the dimensions that its multiplication asserts. */
function fits(a: readonly number[], b: readonly number[], changed: readonly number[]): boolean {
  const at = (shape: readonly number[], dimension: number): number => shape[dimension] ?? 1;
  const inner = at(a, 0) === at(changed, 0) && at(b, 1) === at(changed, 1) && at(a, 1) === at(b, 0);
  return inner && [2, 3].every((i) => at(a, i) === at(changed, i) && at(b, i) === at(changed, i));
}
