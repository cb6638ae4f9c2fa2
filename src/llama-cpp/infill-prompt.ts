/** The prompt that asks a model for the middle of a file. */
import type { PromptPart } from "../../engine/protocol.ts";
import type { LoadedModel } from "../../models/loaded-model.ts";
import { fillInParts } from "../openai/completion-prompt.ts";
import type { ExtraFile, InfillRequest } from "./native-request.ts";

/**
 * Other files stand in front of the one that is written in, as text that any model can make sense of.
 * @throws {ApiError} 400 when the model was not made for it.
 */
export function infillParts(
  { prefix, suffix, begun, files }: InfillRequest,
  model: LoadedModel,
): PromptPart[] {
  const text = files.map(fileText).join("") + prefix;
  const parts = fillInParts({ kind: "text", param: "input_prefix", text }, suffix, model, "input_suffix");
  return begun === "" ? parts : [...parts, { text: begun, special: false }];
}

function fileText({ filename, text }: ExtraFile): string {
  const head = filename === undefined ? "" : `--- ${filename} ---\n`;
  return `${head}${text}${text.endsWith("\n") ? "" : "\n"}\n`;
}
