/**
 * The report as one HTML page that needs nothing else: no script, no font, no request. Light or dark as the reader's
 * system is.
 */
import type { BenchEnvironment } from "./environment.ts";
import { formatInterval, formatSpread, sideName } from "./format.ts";
import type { Comparison } from "./report.ts";
import { escapeHtml, svgPlot } from "./svg-plot.ts";
import type { Plot } from "./svg-plot.ts";

/** What is shown of one piece of a run. */
export interface ReportPart {
  readonly plots: readonly Plot[];
  readonly comparisons: readonly { readonly title: string; readonly rows: readonly Comparison[] }[];
}

export interface ReportContent extends ReportPart {
  readonly environment: BenchEnvironment;
  /** What A and B are. */
  readonly targets: readonly { readonly url: string; readonly model: string }[];
  /** On top, where there is one. */
  readonly table?: Table;
  /** Each under a heading of its own. */
  readonly parts?: readonly (ReportPart & { readonly title: string })[];
  readonly formulas: readonly string[];
}

interface Table {
  readonly head: readonly string[];
  readonly cells: readonly (readonly string[])[];
}

const STYLE = `:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--grid:#d8dde3;--a:#0b62c4;--b:#c2410c}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ed;--paper:#14171b;--grid:#343a42;--a:#6cb0ff;--b:#ff9a5c}}
body{margin:2rem auto;max-width:60rem;padding:0 1rem;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
svg{width:100%;height:auto}svg text{fill:var(--ink);stroke:none;font-size:12px}.grid{stroke:var(--grid)}.mark{stroke:var(--ink);stroke-dasharray:4 3}
.c0{fill:var(--a);stroke:var(--a)}.c1{fill:var(--b);stroke:var(--b)}.line{fill:none;stroke-width:2}.faint{opacity:.35}rect,circle{stroke:none}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid var(--grid)}td:first-child,th:first-child{text-align:left}
.key::before{content:"";display:inline-block;width:.8em;height:.8em;margin-right:.4em;background:currentColor}.k0{color:var(--a)}.k1{color:var(--b)}pre{white-space:pre-wrap}`;

export function htmlReport(content: ReportContent): string {
  const { environment, targets, table, parts = [], formulas } = content;
  const { version, date, cpu, cores, memoryGib, platform, node } = environment;
  const machine = `${cpu}, ${cores} cores, ${memoryGib} GiB, ${platform}, node ${node}`;
  return [
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">`,
    `<title>weft bench ${escapeHtml(date)}</title><style>${STYLE}</style></head><body>`,
    `<h1>weft bench ${escapeHtml(version)}</h1><p>${escapeHtml(date)}<br>${escapeHtml(machine)}<br>`,
    `<code>${escapeHtml(environment.arguments.join(" "))}</code></p><ul>`,
    ...targets.map(
      ({ url, model }, side) =>
        `<li class="key k${side}">${sideName(side)}: ${escapeHtml(url)}, ${escapeHtml(model)}</li>`,
    ),
    `</ul>`,
    ...(table === undefined ? [] : [tableOf(table)]),
    ...partOf(content, "h2"),
    ...parts.flatMap((part) => [`<h2>${escapeHtml(part.title)}</h2>`, ...partOf(part, "h3")]),
    `<h2>What the numbers mean</h2><pre>${escapeHtml(formulas.join("\n"))}</pre></body></html>\n`,
  ].join("\n");
}

function partOf({ plots, comparisons }: ReportPart, heading: "h2" | "h3"): string[] {
  const headed = (title: string, shown: string): string =>
    `<${heading}>${escapeHtml(title)}</${heading}>${shown}`;
  return [
    ...plots.map((plot) => headed(plot.title, svgPlot(plot))),
    ...comparisons.map(({ title, rows }) => headed(title, tableOf(comparisonTable(rows)))),
  ];
}

function comparisonTable(rows: readonly Comparison[]): Table {
  const both = rows.some(({ sides }) => sides.length > 1);
  const head = [
    "",
    ...(rows[0]?.sides ?? []).map((_, side) => sideName(side)),
    ...(both ? ["A/B", "95 %"] : []),
  ];
  const cells = rows.map(({ metric, sides, ratio, interval }) => {
    const compared = both ? [formatSpread(ratio, 3), formatInterval(interval)] : [];
    return [metric, ...sides.map((side) => formatSpread(side, 1)), ...compared];
  });
  return { head, cells };
}

function tableOf({ head, cells: lines }: Table): string {
  const row = (cells: readonly string[], tag: "td" | "th"): string =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join("")}</tr>`;
  return `<table>${row(head, "th")}${lines.map((cells) => row(cells, "td")).join("")}</table>`;
}
