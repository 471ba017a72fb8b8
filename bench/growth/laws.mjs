/** How cost grows, in words that are computed from the points. */

const WHO = { deno: "Deno", bun: "Bun", node: "Node", floor: "C floor" };

/** Below: it falls; then it stays, grows slower, as fast, and faster. */
const FALLS = 0.8;
const STAYS = 1.25;
const SLOWER = 8;
const AS_FAST = 12.5;

/** A line for each chart and each who. */
export function lawsOf(charts, points) {
  return charts.flatMap((chart) =>
    whoOf(points).map((who) => {
      const own = points.filter((point) =>
        point.chart === chart.name && point.who === who && usable(point)
      ).sort((a, b) => a.x - b.x);
      if (own.length < 2) return undefined;
      const words = chart.law === "power" ? powerLaw(own) : lineLaw(own, chart);
      return `${chart.title}, ${WHO[who]}: ${ends(own, chart)}: ${words}`;
    }).filter((line) => line !== undefined)
  );
}

/** Those who have points, in their order. */
export function whoOf(points) {
  return Object.keys(WHO).filter((who) =>
    points.some((point) => point.who === who)
  );
}

/** A name for people. */
export function nameOf(who) {
  return WHO[who];
}

/** Three digits. */
export function digits(value) {
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return Number.isInteger(value) ? String(value) : value.toPrecision(3);
}

/** A count as a power of ten where it is one. */
export function countText(x) {
  const power = Math.log10(x);
  if (x >= 1e4 && Number.isInteger(power)) return `10^${power}`;
  return digits(x);
}

function usable({ x, value }) {
  return Number.isFinite(x) && Number.isFinite(value);
}

function ends(own, { unit, x }) {
  const [first, last] = [own[0], own.at(-1)];
  const ratio = digits(last.value / first.value);
  return `${digits(first.value)} ${unit} at ${countText(first.x)}, ` +
    `${digits(last.value)} ${unit} at ${countText(last.x)} ${x}, x ${ratio}`;
}

function powerLaw(own) {
  const positive = own.filter(({ value }) => value > 0);
  const { slope, share } = fit(
    positive.map(({ x }) => Math.log10(x)),
    positive.map(({ value }) => Math.log10(value)),
  );
  const factor = 10 ** slope;
  const word = factor < FALLS
    ? "falls"
    : factor <= STAYS
    ? "stays"
    : factor < SLOWER
    ? "grows slower than the count"
    : factor <= AS_FAST
    ? "grows as the count"
    : "grows faster than the count";
  return `${word}; x ${digits(factor)} for each tenfold ` +
    `(slope ${slope.toFixed(3)}${explained(share, positive)})`;
}

function lineLaw(own, { unit }) {
  const { slope, start, share } = fit(
    own.map(({ x }) => x),
    own.map(({ value }) => value),
  );
  const sign = slope < 0 ? "-" : "+";
  const more = `${digits(Math.abs(slope))} ${unit} for each`;
  return `${digits(start)} ${unit} ${sign} ${more}${explained(share, own)}`;
}

/** A line through two points explains nothing. */
function explained(share, points) {
  return points.length > 2 ? `, r² ${share.toFixed(2)}` : "";
}

/** Least squares; `share` is how much of the spread the line explains. */
function fit(xs, ys) {
  const mean = (list) => list.reduce((sum, one) => sum + one, 0) / list.length;
  const [x0, y0] = [mean(xs), mean(ys)];
  const product = mean(xs.map((x, i) => (x - x0) * (ys[i] - y0)));
  const [xx, yy] = [
    mean(xs.map((x) => (x - x0) ** 2)),
    mean(ys.map((y) => (y - y0) ** 2)),
  ];
  const slope = product / xx;
  const share = yy === 0 ? 1 : product ** 2 / (xx * yy);
  return { slope, start: y0 - slope * x0, share };
}
