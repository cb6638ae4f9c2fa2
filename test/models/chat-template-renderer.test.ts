import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import { TemplateRenderer } from "../../models/chat-template-renderer.ts";
import { TemplateError } from "../../models/chat-template-error.ts";

const FOREVER = "{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}";
const NAME = { source: "Hello {{ name }}", variables: { name: "you" } };

const open: TemplateRenderer[] = [];
afterEach(() => Promise.all(open.splice(0).map((renderer) => renderer.close())));

function rendererWith(options: ConstructorParameters<typeof TemplateRenderer>[0]): TemplateRenderer {
  const renderer = new TemplateRenderer(options);
  open.push(renderer);
  return renderer;
}

function outcome(promise: Promise<string>): Promise<string> {
  return promise.catch((error: unknown) => (error instanceof TemplateError ? error.code : String(error)));
}

describe("TemplateRenderer", () => {
  it("ends a template that loops, and renders what waited behind it", async () => {
    const renderer = rendererWith({ deadlineMs: 800 });
    const results = await Promise.all([
      outcome(renderer.render({ source: FOREVER, variables: {} })),
      outcome(renderer.render(NAME)),
      outcome(renderer.render({ source: FOREVER, variables: {} })),
      outcome(renderer.render(NAME)),
    ]);
    expect(results).toEqual(["template_timeout", "Hello you", "template_timeout", "Hello you"]);
  });

  it("tells a template the date, unless the request tells it another", async () => {
    const renderer = rendererWith({ deadlineMs: 10_000 });
    const source =
      "{% if not date_string is defined %}26 Jul 2024{% endif %}{{ date_string }}, {{ datetime }}";
    expect(await renderer.render({ source, variables: {} })).toMatch(
      /^\d\d [A-Z][a-z]{2} \d{4}, [A-Z][a-z]{2} \d\d \d{4}$/,
    );
    const variables = { date_string: "01 Jan 2020" };
    expect(await renderer.render({ source, variables })).toMatch(/^01 Jan 2020, /);
  });

  it("gives a template that knows functions, and no tools, the tools as text", async () => {
    const renderer = rendererWith({ deadlineMs: 10_000 });
    const source = "{{ 'Functions: ' + functions }}";
    const tools = [{ name: "f" }];
    const named = (variables: Readonly<Record<string, unknown>>): Promise<string> =>
      outcome(renderer.render({ source, variables }));
    expect(await named({ tools })).toBe('Functions: [\n  {\n    "name": "f"\n  }\n]');
    expect(await named({ tools: null })).toBe("Functions: ");
    expect(await named({ tools, functions: "mine" })).toBe("Functions: mine");
    const other = "{% if functions is defined %}functions{% else %}{{ tools | length }} tools{% endif %}";
    expect(await renderer.render({ source: other, variables: { tools } })).toBe("1 tools");
  });

  it("fails a template nested too deep to parse, and goes on", async () => {
    const renderer = rendererWith({ deadlineMs: 10_000 });
    const source = `{{ ${"(".repeat(20_000)}1${")".repeat(20_000)} }}`;
    expect(await outcome(renderer.render({ source, variables: {} }))).toBe("template_failed");
    expect(await outcome(renderer.render(NAME))).toBe("Hello you");
  });

  it("refuses output out of proportion to the input", async () => {
    const renderer = rendererWith({ deadlineMs: 10_000 });
    const source = "{% for i in range(70000) %}x{% endfor %}";
    expect(await outcome(renderer.render({ source, variables: {} }))).toBe("template_too_large");
    const long = await renderer.render({ source, variables: { text: "y".repeat(2000) } });
    expect(long).toHaveLength(70_000);
  });

  it("survives a template that fills the heap", async () => {
    const renderer = rendererWith({ deadlineMs: 15_000 });
    const source =
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}";
    expect(await outcome(renderer.render({ source, variables: {} }))).toMatch(
      /^template_(too_large|failed|timeout)$/,
    );
    expect(await outcome(renderer.render(NAME))).toBe("Hello you");
  });

  it("bounds its queue", async () => {
    const renderer = rendererWith({ deadlineMs: 10_000, maxQueued: 2 });
    const results = await Promise.all([1, 2, 3, 4].map(() => outcome(renderer.render(NAME))));
    expect(results).toEqual(["Hello you", "Hello you", "template_busy", "template_busy"]);
  });

  it("fails a job that cannot be sent to the thread, and goes on", async () => {
    const renderer = rendererWith({ deadlineMs: 10_000 });
    expect(await outcome(renderer.render({ source: "a", variables: { name: () => 1 } }))).toBe(
      "template_failed",
    );
    expect(await outcome(renderer.render(NAME))).toBe("Hello you");
  });

  it("fails what waits when it is closed, and everything after", async () => {
    const renderer = rendererWith({});
    const waiting = outcome(renderer.render(NAME));
    await renderer.close();
    expect(await waiting).toBe("template_failed");
    expect(await outcome(renderer.render(NAME))).toBe("template_failed");
  });

  it("tells a template's refusal from its faults", async () => {
    const renderer = rendererWith({});
    const codes = ["{{ raise_exception('no') }}", "{% if %}", "{{ 'a' | nofilter }}"].map((source) =>
      outcome(renderer.render({ source, variables: {} })),
    );
    expect(await Promise.all(codes)).toEqual(["template_rejected", "template_failed", "template_failed"]);
  });

  it("does not keep a process alive once its renders are done", async () => {
    const file = new URL("../../models/chat-template-renderer.ts", import.meta.url).href;
    const script =
      `const { TemplateRenderer } = await import(${JSON.stringify(file)});` +
      `console.log(await new TemplateRenderer().render(${JSON.stringify(NAME)}));`;
    const args = ["--import", "tsx", "--input-type=module", "--eval", script];
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 15_000 });
    expect(stdout).toBe("Hello you\n");
  });
});
