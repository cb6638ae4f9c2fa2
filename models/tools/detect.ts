/** Finds out how a model writes tool calls, from what its chat template makes of probe conversations. */
import type { CallSyntax } from "./call-syntax.ts";
import { deriveSyntax } from "./derive-syntax.ts";
import { harmonyFormat, isHarmony } from "./harmony-format.ts";
import { GENERIC_SYNTAX, knownSyntax } from "./known-syntaxes.ts";
import { probeTools } from "./probe.ts";
import type { ProbedTemplate, ProbeResult } from "./probe.ts";
import { formatOf } from "./syntax-format.ts";
import type { ToolFormat } from "./tool-format.ts";

/** Turns of a few short calls are shorter; more is not looked at. */
const TURN_LIMIT = 4096;

const found = new WeakMap<ProbedTemplate, Promise<ToolFormat>>();

/**
 * Once per template. A template that shows no calls gets the syntax its text speaks of, else a generic one.
 * @throws {TemplateError} `template_busy`; the next call tries again.
 */
export function detectToolFormat(template: ProbedTemplate): Promise<ToolFormat> {
  let format = found.get(template);
  if (format === undefined) {
    format = detect(template);
    found.set(template, format);
    format.catch(() => found.delete(template));
  }
  return format;
}

async function detect(template: ProbedTemplate): Promise<ToolFormat> {
  const probed = await probeTools(template);
  const derived = derivedSyntax(probed);
  const shows = {
    definitions: probed.showsDefinitions,
    calls: derived !== undefined,
    severalCalls: derived !== undefined && probed.two !== undefined,
    namesInIds: derived !== undefined && probed.namesInIds,
  };
  if (derived !== undefined && isHarmony(derived)) {
    return harmonyFormat({ ...shows, results: probed.showsResults });
  }
  if (derived !== undefined) return formatOf(derived, { ...shows, results: probed.showsResults });
  const known = knownSyntax(`${template.source}\n${probed.withTools}`);
  if (known !== undefined) {
    return formatOf(known, { ...shows, results: probed.showsResults });
  }
  // A role that the template only passes on is none that the model was trained on.
  return formatOf(GENERIC_SYNTAX, { ...shows, results: false });
}

function derivedSyntax({ one, two }: ProbeResult): CallSyntax | undefined {
  if (one === undefined || one.length > TURN_LIMIT) return undefined;
  return deriveSyntax(one, two === undefined || two.length > TURN_LIMIT ? undefined : two);
}
