/** A model that can answer: its engine, its token table and its chat template, under the name it is served by. */
import type { AdapterUse } from "../engine/adapters.ts";
import type { EngineClient } from "../engine/client.ts";
import type { ModelFacts } from "../engine/protocol.ts";
import type { SamplingDefaults } from "./catalogue.ts";
import type { ChatTemplate } from "./chat-template.ts";
import type { TokenTable } from "./text/token-table.ts";

export interface LoadedModel {
  /** The id in `/v1/models` and in every response. */
  readonly id: string;
  /** As its file is called. */
  readonly fileName: string;
  readonly facts: ModelFacts;
  readonly engine: EngineClient;
  readonly tokens: TokenTable;
  /** Undefined when the model file has none: such a model serves `/v1/completions` only. */
  readonly template: ChatTemplate | undefined;
  /** Used where a request says nothing. */
  readonly sampling: SamplingDefaults;
  /** LoRA adapters that its engine has loaded, in the order of the engine's indices. */
  readonly adapters: readonly NamedAdapter[];
  /** Those of them that its answers are computed with. */
  readonly applied: readonly AdapterUse[];
}

export interface NamedAdapter {
  /** The id of the model with this adapter. */
  readonly name: string;
  /** As the file is called. */
  readonly fileName: string;
  /** How strongly it is applied where a request says nothing. */
  readonly scale: number;
}
