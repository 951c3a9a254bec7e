// A roofline chart as SVG: rate over arithmetic intensity, both logarithmic, under the roofs of the
// device's memory and of its arithmetic. Shapes tell the series apart without colour.

const WIDTH = 860;
const HEIGHT = 520;
const LEFT = 70;
const RIGHT = 200;
const TOP = 50;
const BOTTOM = 60;

const COLORS = ["#3366cc", "#dc7633", "#229954", "#8e44ad", "#b03a2e", "#5d6d7e"];
const MARKS = [
  (x, y) => `<circle cx="${x}" cy="${y}" r="4"/>`,
  (x, y) => `<rect x="${x - 4}" y="${y - 4}" width="8" height="8"/>`,
  (x, y) => `<path d="M${x} ${y - 5}l5 9h-10z"/>`,
  (x, y) => `<path d="M${x} ${y - 5}l5 5l-5 5l-5-5z"/>`,
  (x, y) => `<path d="M${x} ${y + 5}l5-9h-10z"/>`,
  (x, y) => `<path d="M${x - 4} ${y - 4}l8 8m0-8l-8 8" stroke-width="2" stroke="currentColor"/>`,
];

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** Powers of ten that span the values. */
function decades(values) {
  return [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)))];
}

/**
 * @param {{ title: string, bandwidthGBs: number,
 *   series: { name: string, peakTFLOPs: number,
 *             points: { intensity: number, TFLOPs: number, name: string }[] }[] }} chart
 *   intensity in operations a byte
 */
export function roofline({ title, bandwidthGBs, series }) {
  const points = series.flatMap((one) => one.points);
  if (points.length === 0) throw new Error("a roofline without points");
  const [x0, x1] = decades(points.map((point) => point.intensity));
  const peaks = series.map((one) => one.peakTFLOPs);
  const [y0, y1] = decades([...points.map((point) => point.TFLOPs), ...peaks]);
  const right = WIDTH - RIGHT;
  const bottom = HEIGHT - BOTTOM;
  const px = (value) => LEFT + ((Math.log10(value) - x0) / Math.max(1, x1 - x0)) * (right - LEFT);
  const py = (value) => bottom - ((Math.log10(value) - y0) / Math.max(1, y1 - y0)) * (bottom - TOP);
  const at = (value) => value.toFixed(1);
  const parts = [];
  for (let power = x0; power <= x1; power++) {
    const x = at(px(10 ** power));
    parts.push(
      `<line x1="${x}" y1="${TOP}" x2="${x}" y2="${bottom}" class="grid"/>`,
      `<text x="${x}" y="${bottom + 20}" text-anchor="middle">${10 ** power}</text>`,
    );
  }
  for (let power = y0; power <= y1; power++) {
    const y = at(py(10 ** power));
    parts.push(
      `<line x1="${LEFT}" y1="${y}" x2="${right}" y2="${y}" class="grid"/>`,
      `<text x="${LEFT - 8}" y="${Number(y) + 4}" text-anchor="end">${10 ** power}</text>`,
    );
  }
  series.forEach((one, i) => {
    const color = COLORS[i % COLORS.length];
    // TFLOP/s that memory allows at an intensity.
    const slope = bandwidthGBs / 1000;
    const knee = Math.min(Math.max(one.peakTFLOPs / slope, 10 ** x0), 10 ** x1);
    const start = Math.max(10 ** x0, 10 ** y0 / slope);
    parts.push(
      `<path d="M${at(px(start))} ${at(py(start * slope))}L${at(px(knee))} ` +
        `${at(py(Math.min(knee * slope, one.peakTFLOPs)))}L${right} ${at(py(one.peakTFLOPs))}" ` +
        `class="roof" stroke="${color}"/>`,
    );
    const mark = MARKS[i % MARKS.length];
    parts.push(`<g fill="${color}" color="${color}">`);
    for (const point of one.points) {
      const shape = mark(Number(at(px(point.intensity))), Number(at(py(point.TFLOPs))));
      const text = escape(`${point.name}: ${point.TFLOPs} TFLOP/s`);
      parts.push(`<g>${shape}<title>${text}</title></g>`);
    }
    const y = TOP + 14 + i * 22;
    parts.push(
      mark(right + 20, y - 4),
      `</g><text x="${right + 34}" y="${y}">${escape(one.name)}</text>`,
    );
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" ` +
      `aria-label="${escape(title)}">`,
    `<style>text{font:13px sans-serif;fill:#222}.grid{stroke:#ddd}` +
      `.roof{fill:none;stroke-width:1.5;stroke-dasharray:6 3}` +
      `@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}}</style>`,
    `<text x="${LEFT}" y="28" style="font-size:16px">${escape(title)}</text>`,
    ...parts,
    `<text x="${(LEFT + right) / 2}" y="${HEIGHT - 14}" text-anchor="middle">` +
      `operations a byte</text>`,
    `<text x="18" y="${(TOP + bottom) / 2}" text-anchor="middle" ` +
      `transform="rotate(-90 18 ${(TOP + bottom) / 2})">TFLOP/s</text>`,
    `</svg>`,
  ].join("\n");
}
