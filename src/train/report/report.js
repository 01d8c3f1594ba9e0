"use strict";
// Draws the report from the JSON in #data: tiles, five charts that share one cursor, a table. No library, no network.
// A number that is unknown or not finite is null. It leaves a gap in a line.

const data = JSON.parse(document.getElementById("data").textContent);
const train = data.train, evaluation = data.evaluation;

// ---------------------------------------------------------------- formatting of numbers

const element = id => document.getElementById(id);
const known = x => x !== null && x !== undefined;

function number(x, digits = 4) {
  if (!known(x)) return "–";
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return x.toExponential(2).replace("e+", "e");
  return size >= 1000 ? Math.round(x).toLocaleString("en-US") : String(+x.toPrecision(digits));
}

function count(x, units = ["", "k", "M", "B", "T", "P", "E"]) {
  if (!known(x)) return "–";
  let unit = 0;
  while (Math.abs(x) >= 999.5 && unit < 6) x /= 1000, unit++;
  const text = unit === 0 || x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2);
  return text + (unit ? " " + units[unit] : "");
}

const flops = x => count(x, ["", "k", "M", "G", "T", "P", "E"]).replace(/\d$/, "$& ") + "FLOP";

function duration(seconds) {
  if (!known(seconds)) return "–";
  const all = Math.round(seconds), h = Math.floor(all / 3600), m = Math.floor(all / 60) % 60;
  if (h >= 48) return Math.floor(h / 24) + " d " + h % 24 + " h";
  if (h) return h + " h " + String(m).padStart(2, "0") + " min";
  if (m >= 10) return m + " min";
  return m ? m + " min " + String(all % 60).padStart(2, "0") + " s" : all + " s";
}

const bare = text => text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, ""); // for axes: 3e-4 instead of 3.00e-4
const whole = x => x.toLocaleString("en-US");
const percent = x => known(x) ? (100 * x).toFixed(1) + " %" : "–";
const last = list => { for (let i = list.length - 1; i >= 0; i--) if (known(list[i])) return list[i]; return null; };

// ---------------------------------------------------------------- series

// Local linear regression: the weight of a neighbour at distance d is weight^d. A moving average would lag behind where
// the loss falls fast, and would be biased at the ends. Gaps have no weight.
function smooth(list, weight) {
  const powers = [1];
  while (powers[powers.length - 1] * weight > 0.01) powers.push(powers[powers.length - 1] * weight);
  return list.map((value, i) => {
    if (!known(value)) return null;
    let n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (let d = -Math.min(i, powers.length - 1); d < powers.length && i + d < list.length; d++) {
      const y = list[i + d], w = powers[Math.abs(d)];
      if (known(y)) n += w, sx += w * d, sy += w * y, sxx += w * d * d, sxy += w * d * y;
    }
    const spread = n * sxx - sx * sx;
    return spread > 1e-9 ? (sy * sxx - sx * sxy) / spread : sy / n;
  });
}

function quantile(list, share) {
  const sorted = list.filter(known).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : null;
}

function best() {
  let at = -1;
  evaluation.loss.forEach((x, i) => { if (known(x) && (at < 0 || x < evaluation.loss[at])) at = i; });
  return at;
}

const weight = train.step.length >= 60 ? 0.9 : 0.6;
let smoothed = smooth(train.loss, weight);

const charts = [
  {
    title: "Loss", wide: true, height: 300, format: x => number(x),
    lines: () => [
      { name: "logged", steps: train.step, values: train.loss, color: "--train", raw: true },
      { name: "smoothed", steps: train.step, values: smoothed, color: "--train" },
      { name: "evaluation", steps: evaluation.step, values: evaluation.loss, color: "--evaluation", dots: true },
    ],
  },
  {
    title: "Evaluation", format: x => number(x), absent: "No evaluation yet. Enable it with --validation_file and --eval_strategy.",
    lines: () => [{ name: "loss", steps: evaluation.step, values: evaluation.loss, color: "--evaluation", dots: true }],
    more: step => {
      const i = nearest(evaluation.step, step);
      if (i < 0 || !known(evaluation.loss[i])) return [];
      return [["perplexity", number(Math.exp(evaluation.loss[i]))], ["accuracy", percent(evaluation.accuracy[i])]];
    },
  },
  {
    title: "Learning rate", zero: true, format: x => number(x, 3),
    lines: () => [{ name: "", steps: train.step, values: train.learning_rate, color: "--rate" }],
  },
  {
    title: "Gradient norm", mayBeLog: true, format: x => number(x, 3),
    lines: () => [{ name: "before clipping", steps: train.step, values: train.grad_norm, color: "--norm" }],
  },
  {
    title: "Tokens per second", zero: true, format: count,
    lines: () => [{ name: "", steps: train.step, values: train.tokens_per_second, color: "--speed" }],
  },
];

// ---------------------------------------------------------------- scales

// Round numbers (1, 2, 2.5 or 5 times a power of ten) between low and high, at most `limit` of them.
function ticks(low, high, limit) {
  const raw = (high - low) / limit, power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = power * [1, 2, 2.5, 5, 10].find(m => m * power >= raw * 0.999);
  const list = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) list.push(i * step);
  return list;
}

function logTicks(low, high) {
  const list = [], decades = Math.log10(high / low);
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const m of decades < 1.5 ? [1, 2, 3, 5, 7] : decades < 3 ? [1, 2, 5] : [1]) {
      const x = m * Math.pow(10, power);
      if (x >= low && x <= high) list.push(x);
    }
  return list;
}

// The range of the vertical axis. Outliers at the top are cut off, so that they do not flatten the rest of the curve.
function range(chart, lines) {
  let low = Infinity, high = -Infinity;
  for (const line of lines) {
    const values = line.values.filter(known);
    if (!values.length) continue;
    const largest = Math.max(...values), usual = quantile(values, 0.99);
    const middle = quantile(values, 0.5), smallest = Math.min(...values);
    low = Math.min(low, smallest);
    high = Math.max(high, largest - middle > 4 * (usual - smallest) ? usual + 0.3 * (usual - smallest) : largest);
  }
  const log = Boolean(chart.mayBeLog && low > 0 && high > 20 * low);
  if (chart.zero) low = Math.min(0, low);
  const room = high > low ? (high - low) * 0.06 : Math.abs(high) * 0.1 || 1;
  if (log) return { low: low / 1.15, high: high * 1.15, log };
  return { low: chart.zero && low === 0 ? 0 : low - room, high: high + room, log };
}

// ---------------------------------------------------------------- drawing

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { right: 12, top: 8, bottom: 24 }; // the left margin is chart.left, the width of the labels
const lastStep = Math.max(1, ...train.step.slice(-1), ...evaluation.step.slice(-1));
const firstStep = Math.min(lastStep - 1, train.step.length ? train.step[0] : 0, ...evaluation.step.slice(0, 1));

function add(parent, name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function path(line, x, y) {
  let text = "", pen = "M";
  line.values.forEach((value, i) => {
    if (!known(value)) { pen = "M"; return; }
    text += pen + x(line.steps[i]).toFixed(1) + " " + y(value).toFixed(1);
    pen = "L";
  });
  return text;
}

function marksOf(chart, scale, box) {
  const list = scale.log ? logTicks(scale.low, scale.high) : ticks(scale.low, scale.high, box.height > 200 ? 6 : 4);
  return list.map(value => ({ value, text: value === 0 ? "0" : bare(chart.format(+value.toPrecision(6))) }));
}

function drawGrid(chart, svg, box, marks) {
  for (const { value, text } of marks) {
    const y = chart.y(value);
    add(svg, "line", { class: "grid", x1: chart.left, x2: box.width - MARGIN.right, y1: y, y2: y });
    add(svg, "text", { x: chart.left - 7, y: y + 4, "text-anchor": "end" }, text);
  }
  const steps = ticks(firstStep, lastStep, Math.max(2, Math.floor(box.width / 110))).filter(s => s === Math.round(s));
  for (const step of steps) {
    const text = step >= 10000 ? bare(count(step)) : whole(step), half = 3.5 * text.length;
    const x = Math.min(chart.x(step), box.width - half);
    add(svg, "text", { x, y: box.height - 6, "text-anchor": "middle" }, text);
  }
}

function drawLine(line, svg, chart, clip) {
  const color = `var(${line.color})`;
  add(svg, "path", { d: path(line, chart.x, chart.y), fill: "none", stroke: color, "stroke-linejoin": "round",
    "stroke-width": line.raw ? 1 : 2, "stroke-opacity": line.raw ? 0.45 : 1, "clip-path": `url(#${clip})` });
  const points = line.values.filter(known).length;
  if (!line.dots && points > 1) return;
  const maxDots = 60, every = Math.ceil(points / maxDots);
  line.values.forEach((value, i) => {
    if (known(value) && (i % every === 0 || i === best()))
      add(svg, "circle", { class: "dot", cx: chart.x(line.steps[i]), cy: chart.y(value), r: 3.5, fill: color });
  });
}

function draw(chart) {
  const svg = chart.svg, box = { width: chart.svg.clientWidth || 560, height: chart.height || 190 };
  const lines = chart.lines().filter(line => line.values.some(known));
  const scale = range(chart, lines), transform = scale.log ? Math.log : x => x;
  const marks = marksOf(chart, scale, box);
  chart.left = 16 + 6.5 * Math.max(2, ...marks.map(mark => mark.text.length));
  const inner = { width: box.width - chart.left - MARGIN.right, height: box.height - MARGIN.top - MARGIN.bottom };
  const low = transform(scale.low), high = transform(scale.high);
  chart.x = step => chart.left + (step - firstStep) / (lastStep - firstStep) * inner.width;
  chart.y = value => MARGIN.top + (high - transform(value)) / (high - low) * inner.height;
  chart.stepAt = x => firstStep + (x - chart.left) / inner.width * (lastStep - firstStep);
  chart.box = box;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  svg.setAttribute("height", box.height);
  const clip = "clip-" + charts.indexOf(chart);
  add(add(svg, "clipPath", { id: clip }), "rect",
      { x: chart.left, y: MARGIN.top - 2, width: inner.width + 2, height: inner.height + 4 });
  drawGrid(chart, svg, box, marks);
  for (const line of lines) drawLine(line, svg, chart, clip);
  chart.cursor = add(svg, "g", {});
  point(chart);
}

// ---------------------------------------------------------------- shared cursor

let cursor = null; // one of the steps in `stops`; null shows the last values
const stops = [...new Set([...train.step, ...evaluation.step])].sort((a, b) => a - b);

// Index of the entry nearest to a step, the last one if several are equally near. -1 if there are no entries.
function nearest(steps, step) {
  let low = 0, high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle + 1; else high = middle;
  }
  if (low === steps.length || (low > 0 && step - steps[low - 1] <= steps[low] - step)) return low - 1;
  return low;
}

function readout(chart, step) {
  const entries = chart.lines().filter(line => line.values.some(known)).map(line => {
    const i = nearest(line.steps, step);
    return { name: line.name, text: chart.format(line.values[i]), color: line.color, faint: line.raw };
  });
  for (const [name, text] of chart.more ? chart.more(step) : []) entries.push({ name, text });
  return entries;
}

function showReadout(chart, entries) {
  chart.readout.replaceChildren(...entries.map(entry => {
    const span = document.createElement("span"), value = document.createElement("b");
    if (entry.color) {
      const mark = document.createElement("i");
      mark.style.background = `var(${entry.color})`;
      if (entry.faint) mark.style.opacity = 0.4;
      span.append(mark);
    }
    value.textContent = entry.text;
    span.append(entry.name ? entry.name + " " : "", value);
    return span;
  }));
}

function drawCursor(chart, step) {
  const x = chart.x(step), text = whole(step), wide = 7 * text.length + 12;
  const left = Math.min(Math.max(x - wide / 2, 0), chart.box.width - wide), bottom = chart.box.height;
  add(chart.cursor, "line", { class: "cross", x1: x, x2: x, y1: MARGIN.top, y2: bottom - MARGIN.bottom });
  add(chart.cursor, "rect", { class: "badge", x: left, y: bottom - 20, width: wide, height: 18, rx: 4 });
  add(chart.cursor, "text", { class: "badge-text", x: left + wide / 2, y: bottom - 7, "text-anchor": "middle" }, text);
  for (const line of chart.lines().filter(one => !one.raw)) {
    const i = nearest(line.steps, step);
    if (i < 0 || !known(line.values[i])) continue;
    const y = Math.max(MARGIN.top, chart.y(line.values[i]));
    add(chart.cursor, "circle",
        { class: "dot", cx: chart.x(line.steps[i]), cy: y, r: 4.5, fill: `var(${line.color})` });
  }
}

function point(chart) {
  const step = cursor === null ? lastStep : cursor, entries = readout(chart, step);
  chart.cursor.replaceChildren();
  showReadout(chart, entries);
  if (cursor !== null) drawCursor(chart, step);
  chart.svg.setAttribute("aria-valuenow", step);
  chart.svg.setAttribute("aria-valuetext", `step ${step}: ` + entries.map(e => `${e.name} ${e.text}`).join(", "));
}

function moveTo(step) {
  cursor = step;
  for (const chart of charts) if (chart.svg) point(chart);
}

function moveBy(places) {
  const at = cursor === null ? stops.length - 1 : nearest(stops, cursor);
  moveTo(stops[Math.min(stops.length - 1, Math.max(0, at + places))]);
}

function onKey(event) {
  const far = Math.max(1, Math.round(stops.length / 20));
  const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: -far, PageUp: far, Home: -stops.length, End: stops.length };
  if (event.key === "Escape") moveTo(null);
  else if (event.key in moves) moveBy(moves[event.key] * (event.shiftKey ? far : 1));
  else return;
  event.preventDefault();
}

function onPointer(chart, event) {
  const box = chart.svg.getBoundingClientRect();
  moveTo(stops[nearest(stops, chart.stepAt(event.clientX - box.left))] ?? stops[0]);
}

// ---------------------------------------------------------------- page

function make(parent, name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function makeSlider(head) {
  const label = make(head, "label", "", "Smoothing"), input = make(label, "input");
  Object.assign(input, { type: "range", min: 0, max: 0.99, step: 0.01, value: weight });
  input.addEventListener("input", () => {
    smoothed = smooth(train.loss, Number(input.value));
    draw(charts[0]);
  });
}

function makeChart(chart) {
  const card = make(element("cards"), "section", chart.wide ? "card wide" : "card");
  const head = make(card, "div", "head");
  make(head, "h2", "", chart.title);
  if (!chart.lines().some(line => line.values.some(known))) {
    make(card, "p", "none", chart.absent || "Nothing logged yet");
    return;
  }
  chart.readout = make(head, "div", "readout");
  if (chart.wide) makeSlider(head);
  chart.svg = add(card, "svg", { class: "plot", tabindex: 0, role: "slider", "aria-label": chart.title + ", by step",
    "aria-valuemin": stops[0], "aria-valuemax": lastStep });
  for (const type of ["pointermove", "pointerdown"]) chart.svg.addEventListener(type, e => onPointer(chart, e));
  chart.svg.addEventListener("pointerleave", () => moveTo(null));
  chart.svg.addEventListener("keydown", onKey);
}

function makeTiles() {
  const finalLoss = last(smoothed), at = best(), speed = last(train.tokens_per_second);
  const tiles = [
    ["Step", whole(data.step), `of ${whole(data.steps)}`],
    ["Training loss", number(finalLoss), "smoothed"],
    ["Evaluation loss", at < 0 ? "–" : number(evaluation.loss[at]), at < 0 ? "none yet" :
      `best, step ${whole(evaluation.step[at])}`],
    ["Tokens", count(data.tokens), `epoch ${number(data.epoch, 3)}`],
    ["Tokens per second", count(speed), flops(data.flops) + " so far"],
    data.finished ? ["Time", duration(data.seconds), "last process"]
                  : ["Time left", duration(data.seconds_left), `${duration(data.seconds)} so far`],
  ];
  if (data.skipped > 0) tiles.push(["Skipped steps", whole(data.skipped), "loss or gradient not finite"]);
  for (const [name, value, note] of tiles) {
    const tile = make(element("tiles"), "div", "tile");
    make(tile, "dt", "", name);
    make(make(tile, "dd", "", value), "small", "", note).title = note;
  }
}

function makeTable() {
  const table = document.querySelector("#evaluations table"), row = make(table, "tr");
  for (const name of ["step", "epoch", "loss", "perplexity", "accuracy"]) make(row, "th", "", name);
  evaluation.step.forEach((step, i) => {
    const loss = evaluation.loss[i], line = make(table, "tr", i === best() ? "best" : "");
    const cells = [whole(step), number(evaluation.epoch[i], 3), number(loss, 5), known(loss) ? number(Math.exp(loss)) : "–",
                   percent(evaluation.accuracy[i])];
    for (const text of cells) make(line, "td", "", text);
  });
  element("evaluations").hidden = !evaluation.step.length;
}

function makeText() {
  const plural = (n, one, many = one + "s") => `${whole(n)} ${n === 1 ? one : many}`;
  document.title = data.name + " – training report";
  element("name").textContent = data.name;
  element("state").textContent = data.finished ? "finished" : `${Math.floor(100 * data.step / data.steps)} %`;
  element("state").classList.toggle("finished", data.finished);
  element("done").style.width = 100 * Math.min(1, data.step / data.steps) + "%";
  element("about").textContent = [`${count(data.parameters)} parameters`, `blocks of ${whole(data.block_size)} tokens`,
    `${count(data.tokens_per_step)} tokens per step`, data.device, plural(data.threads, "thread"),
    plural(data.processes, "process", "processes")]
    .join(" · ");
  element("footer").textContent = `Written ${data.written} by lckv ${data.version}.` + (data.thinned > 1 ?
    ` Each point is the mean of ${data.thinned} logged steps; trainer_state.json contains all of them.` : "");
  element("command").hidden = !data.command;
  document.querySelector("#command pre").textContent = data.command || "";
}

makeText();
makeTiles();
charts.forEach(makeChart);
makeTable();
const drawn = charts.filter(chart => chart.svg);
drawn.forEach(draw);
if (window.ResizeObserver) new ResizeObserver(() => drawn.forEach(draw)).observe(element("cards"));
