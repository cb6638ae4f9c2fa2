/** What tests of `/v1/responses` ask the application, and the answers as they read them. */
import type { ScriptedEngine } from "../../support/scripted-engine.ts";
import { sayThenStop } from "../../support/scripted-engine.ts";
import { createTestApp, MODEL_ID } from "../../support/test-app.ts";
import type { TestAppOptions } from "../../support/test-app.ts";
import { EOS } from "../../support/tiny-vocabulary.ts";

export interface ItemJson {
  readonly id: string;
  readonly type: string;
  readonly status?: string;
  readonly role?: string;
  readonly content?: readonly {
    readonly type: string;
    readonly text: string;
    readonly logprobs?: unknown[];
  }[];
}

export interface ResponseBody {
  readonly id: string;
  readonly object: string;
  readonly status: string;
  readonly output: readonly ItemJson[];
  readonly instructions: string | null;
  readonly incomplete_details: { readonly reason: string } | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly [key: string]: unknown;
}

export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

export interface EventJson {
  readonly type: string;
  readonly sequence_number: number;
  readonly response?: ResponseBody;
  readonly delta?: string;
  readonly [key: string]: unknown;
}

export function createResponsesApp(options: TestAppOptions = {}) {
  const test = createTestApp(options);
  test.engine.script = sayThenStop("Hello", EOS);
  const headers = (key: string | undefined): Record<string, string> => ({
    host: "localhost",
    ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
  });
  /** Posts to `/v1/responses`. */
  const ask = (fields: object = {}, key?: string, signal?: AbortSignal): Promise<Response> =>
    test.post(
      "/v1/responses",
      { model: MODEL_ID, input: "hi", ...fields },
      { headers: headers(key), ...(signal === undefined ? {} : { signal }) },
    );
  const call = async (method: string, path: string, key?: string): Promise<Response> =>
    test.app.request(`/v1/responses/${path}`, { method, headers: headers(key) });
  return {
    ...test,
    ask,
    call,
    /** What `ask` answers, which must be a response. */
    answer: async (fields: object = {}, key?: string): Promise<ResponseBody> => {
      const reply = await ask(fields, key);
      if (reply.status !== 200) throw new Error(await reply.text());
      return (await reply.json()) as ResponseBody;
    },
    get: async (id: string, key?: string): Promise<ResponseBody> =>
      (await (await call("GET", id, key)).json()) as ResponseBody,
    /** The text that the last prompt was made of; the test's template joins the messages' contents. */
    lastPrompt: (): string => promptText(test.engine),
  };
}

export async function errorOf(
  reply: Response | Promise<Response>,
): Promise<ErrorBody["error"] & { status: number }> {
  const response = await reply;
  const { error } = (await response.json()) as ErrorBody;
  return { ...error, status: response.status };
}

/** The events of a stream, with the frames' names checked against their data. */
export async function eventsOf(reply: Response | Promise<Response>): Promise<EventJson[]> {
  const text = await (await reply).text();
  return text
    .split("\n\n")
    .filter((frame) => frame !== "")
    .map((frame) => {
      const [name, data] = frame.split("\n");
      const event = JSON.parse(data?.slice("data: ".length) ?? "") as EventJson;
      if (name !== `event: ${event.type}`) throw new Error(`A wrong name: ${frame}`);
      return event;
    });
}

function promptText(engine: ScriptedEngine): string {
  const parts = engine.submits.at(-1)?.prompt ?? [];
  return parts.map((part) => ("text" in part ? part.text : "")).join("");
}
