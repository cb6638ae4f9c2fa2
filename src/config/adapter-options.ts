/** `--lora`: which LoRA adapters are served beside which model, under which names. */
import { basename } from "node:path";
import { numberOf } from "./value-kinds.ts";
import type { ValueKind } from "./value-kinds.ts";

export interface AdapterOption {
  /** What clients call it. */
  readonly name: string;
  readonly file: string;
  readonly scale: number;
  /** Id or alias of the model that it changes; undefined is the only one. */
  readonly model: string | undefined;
}

/** Beyond it nothing is left of the model but the adapter. */
const MOST_SCALE = 100;

const NAME = /^[\w./:-]{1,128}$/;
const TEXT = /^(?:([^=]+)=)?(.+?\.gguf)(?::(-?\d+(?:\.\d+)?))?(?:@(.+))?$/is;

/** `NAME=FILE.gguf:SCALE@MODEL`, repeated or separated by commas; in the file also an object by name. */
export const adapterOptions: ValueKind<readonly AdapterOption[]> = {
  placeholder: "adapter",
  expected: `NAME=FILE.gguf, with :SCALE from -${MOST_SCALE} to ${MOST_SCALE} and @MODEL behind it if need be, each NAME once`,
  repeatable: true,
  read(raw) {
    const adapters = entriesOf(raw).map((entry) => entry && checked(entry));
    const names = new Set(adapters.map((adapter) => adapter?.name));
    if (names.has(undefined) || names.size < adapters.length) return undefined;
    return adapters.filter((adapter) => adapter !== undefined);
  },
};

interface Entry {
  readonly name: unknown;
  readonly file: unknown;
  readonly scale: unknown;
  readonly model: unknown;
}

function entriesOf(raw: unknown): (Entry | undefined)[] {
  const items: unknown = typeof raw === "string" ? raw.split(",").filter((item) => item.trim() !== "") : raw;
  if (Array.isArray(items))
    return items.map((item: unknown) => (typeof item === "string" ? entryOf(item) : undefined));
  if (typeof items !== "object" || items === null) return [undefined];
  return Object.entries(items).map(([name, value]: [string, unknown]) => {
    if (typeof value === "string") return entryOf(`${name}=${value}`);
    if (typeof value !== "object" || value === null) return undefined;
    const { file, scale = 1, model, ...others } = value as Partial<Record<string, unknown>>;
    return Object.keys(others).length === 0 ? { name, file, scale, model } : undefined;
  });
}

function entryOf(text: string): Entry | undefined {
  const [, name, file = "", scale = 1, model] = TEXT.exec(text.trim()) ?? [];
  return file === ""
    ? undefined
    : { name: name ?? basename(file).replace(/\.gguf$/i, ""), file, scale, model };
}

function checked({ name, file, scale: given, model }: Entry): AdapterOption | undefined {
  const scale = numberOf(given);
  const texts = typeof name === "string" && NAME.test(name) && typeof file === "string" && file !== "";
  if (!texts || !(Math.abs(scale) <= MOST_SCALE)) return undefined;
  return model === undefined || typeof model === "string" ? { name, file, scale, model } : undefined;
}
