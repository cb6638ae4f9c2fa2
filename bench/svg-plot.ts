/** Plots as SVG text: axes from zero with round ticks, and series as lines, steps, points or bars. Colours come from the page. */

export interface Series {
  readonly name: string;
  /** Number of a colour; series of one server share it. */
  readonly colour: number;
  readonly kind: "line" | "steps" | "points" | "bars";
  /** `[x, y]`; of bars `[x, y, width]`, one row of the plot high. */
  readonly points: readonly (readonly [number, number, number?])[];
  /** Beside the points of a line. */
  readonly labels?: readonly string[];
  /** Fainter than the others. */
  readonly faint?: boolean;
}

export interface Plot {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly series: readonly Series[];
  /** Vertical lines. */
  readonly marks?: readonly { readonly at: number; readonly label: string }[];
  /** A horizontal line: what should not be exceeded. */
  readonly limit?: { readonly at: number; readonly label: string };
  /** Whether the numbers of the y axis mean nothing. */
  readonly noYTicks?: boolean;
}

const WIDTH = 720;
const HEIGHT = 320;
const EDGE = { left: 70, right: 16, top: 16, bottom: 46 };

export function svgPlot(plot: Plot): string {
  let [mostX, mostY] = [0, plot.limit?.at ?? 0];
  // One by one: they may be more than a call can have arguments.
  for (const [x, y, width = 0] of plot.series.flatMap((series) => series.points)) {
    mostX = Math.max(mostX, x + width);
    mostY = Math.max(mostY, y);
  }
  const xTicks = ticks(mostX);
  const yTicks = ticks(mostY);
  const inner = { width: WIDTH - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  const xAt = (x: number): number => EDGE.left + (x / (xTicks.at(-1) ?? 1)) * inner.width;
  const yAt = (y: number): number => EDGE.top + (1 - y / (yTicks.at(-1) ?? 1)) * inner.height;
  const bottom = EDGE.top + inner.height;
  const parts = [
    ...xTicks.map(
      (x) =>
        `<path class="grid" d="M${n(xAt(x))} ${EDGE.top}V${bottom}"/><text x="${n(xAt(x))}" y="${bottom + 16}" text-anchor="middle">${shown(x)}</text>`,
    ),
    ...yTicks.map((y) => {
      const label = plot.noYTicks === true ? "" : shown(y);
      return `<path class="grid" d="M${EDGE.left} ${n(yAt(y))}H${EDGE.left + inner.width}"/><text x="${EDGE.left - 8}" y="${n(yAt(y) + 4)}" text-anchor="end">${label}</text>`;
    }),
    `<text x="${EDGE.left + inner.width / 2}" y="${HEIGHT - 8}" text-anchor="middle">${escapeHtml(plot.x)}</text>`,
    `<text transform="translate(16 ${EDGE.top + inner.height / 2}) rotate(-90)" text-anchor="middle">${escapeHtml(plot.y)}</text>`,
    ...(plot.marks ?? []).map(
      ({ at, label }, row) =>
        // Below each other, since marks may be close.
        `<path class="mark" d="M${n(xAt(at))} ${EDGE.top}V${bottom}"/><text x="${n(xAt(at) + 4)}" y="${EDGE.top + 12 + 14 * row}">${escapeHtml(label)}</text>`,
    ),
    ...(plot.limit === undefined
      ? []
      : [
          `<path class="mark" d="M${EDGE.left} ${n(yAt(plot.limit.at))}H${EDGE.left + inner.width}"/><text x="${EDGE.left + 4}" y="${n(yAt(plot.limit.at) - 4)}">${escapeHtml(plot.limit.label)}</text>`,
        ]),
    ...plot.series.map((series) => drawn(series, xAt, yAt)),
  ];
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(plot.title)}">${parts.join("")}</svg>`;
}

function drawn(
  { name, colour, kind, points, labels = [], faint }: Series,
  xAt: (x: number) => number,
  yAt: (y: number) => number,
): string {
  const attributes = `class="c${colour}${faint === true ? " faint" : ""}"`;
  const title = `<title>${escapeHtml(name)}</title>`;
  if (kind === "bars") {
    const high = Math.max(0.5, Math.abs(yAt(1) - yAt(0)) * 0.8);
    const bars = points.map(
      ([x, y, width = 0]) =>
        `<rect x="${n(xAt(x))}" y="${n(yAt(y) - high / 2)}" width="${n(Math.max(0.5, xAt(x + width) - xAt(x)))}" height="${n(high)}"/>`,
    );
    return `<g ${attributes}>${title}${bars.join("")}</g>`;
  }
  const dots = points.map(([x, y]) => `<circle cx="${n(xAt(x))}" cy="${n(yAt(y))}" r="3"/>`).join("");
  if (kind === "points") return `<g ${attributes}>${title}${dots}</g>`;
  const path = points
    .map(([x, y], i) => {
      if (i === 0) return `M${n(xAt(x))} ${n(yAt(y))}`;
      return kind === "steps" ? `H${n(xAt(x))}V${n(yAt(y))}` : `L${n(xAt(x))} ${n(yAt(y))}`;
    })
    .join("");
  const texts = labels
    .map((label, i) => {
      const [x, y] = points[i] ?? [0, 0];
      return `<text x="${n(xAt(x) + 5)}" y="${n(yAt(y) + 14)}">${escapeHtml(label)}</text>`;
    })
    .join("");
  return `<g ${attributes}>${title}<path class="line" d="${path}"/>${kind === "line" ? dots + texts : ""}</g>`;
}

/** From 0 in steps of 1, 2 or 5 times a power of ten; the last one is at least `most`. */
function ticks(most: number): number[] {
  const top = most > 0 ? most : 1;
  const power = 10 ** Math.floor(Math.log10(top / 4));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size * 6 >= top) ?? 10 * power;
  return Array.from({ length: Math.ceil(top / step - 1e-9) + 1 }, (_, i) => i * step);
}

function shown(value: number): string {
  return String(Number(value.toPrecision(6)));
}

function n(value: number): string {
  return String(Math.round(value * 10) / 10);
}

export function escapeHtml(text: string): string {
  const names: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (character) => names[character] ?? character);
}
