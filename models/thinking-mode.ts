/** Finds out whether a model is to be expected to think, from what its chat template makes of the switches it has. */
import type { ChatTemplate } from "./chat-template.ts";

type Variables = Readonly<Record<string, unknown>>;

/** What templates call the switch. */
const SWITCHES = ["enable_thinking", "thinking"] as const;

interface ThinkingSwitch {
  readonly name: string;
  /** Whether the model thinks when nothing is said. */
  readonly onByDefault: boolean;
}

const found = new WeakMap<ChatTemplate, Promise<ThinkingSwitch | undefined>>();

/**
 * Whether an output may begin with thinking. A template without a switch belongs to a model that always thinks, if
 * it does at all.
 * @param variables What the request gives the template.
 * @throws {TemplateError} `template_busy`; the next call tries again.
 */
export async function mayThink(template: ChatTemplate, variables: Variables): Promise<boolean> {
  if (template.reasoning === undefined) return false;
  let search = found.get(template);
  if (search === undefined) {
    search = findSwitch(template);
    found.set(template, search);
    search.catch(() => found.delete(template));
  }
  const thinkingSwitch = await search;
  if (thinkingSwitch === undefined) return true;
  const value = variables[thinkingSwitch.name];
  return value === undefined ? thinkingSwitch.onByDefault : value !== false && value !== null;
}

async function findSwitch(template: ChatTemplate): Promise<ThinkingSwitch | undefined> {
  const render = async (kwargs: Variables): Promise<string> => {
    const messages = [{ role: "user", content: "x" }];
    const asked = {
      messages,
      addGenerationPrompt: true,
      continueFinalMessage: false,
      tools: undefined,
      kwargs,
    };
    return (await template.render(asked)).text;
  };
  for (const name of SWITCHES) {
    if (!new RegExp(`\\b${name}\\b`).test(template.source)) continue;
    const [on, off, unsaid] = [
      await render({ [name]: true }),
      await render({ [name]: false }),
      await render({}),
    ];
    if (on !== off) return { name, onByDefault: unsaid !== off };
  }
  return undefined;
}
