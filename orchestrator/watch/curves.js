// Learning curves of the trials in the table, drawn on a canvas: a thousand trainings are tens of thousands of points.
import { element } from "/dom.js";
import { fixed, percent, scientific, words } from "/format.js";
import { QUANTITIES } from "/names.js";

const HEIGHT = 340;
const LEFT = 56;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 40;
const NEAR = 24; // pixels from which a point is hit
const CLICK = 4; // pixels that a press may move and still be one
const MARKS = 40; // cycle ends that are marked by dotted lines, at most
const FEW = 200; // trainings that have a dot at every cycle end

const hidden = new Set(); // labels that the reader has switched off
let shown = null; // what is drawn: lines, scales, and what was zoomed to

export function drawCurves(chart, trials, styles, quantity, onPick) {
  const begun = trials.filter((trial) => trial.curve.epoch.length);
  // Lines drawn later lie on top, which those that stand out must; the legend has them first.
  const order = [...begun].reverse().sort((one, other) => styles.get(other.id).rank - styles.get(one.id).rank);
  const zoom = shown?.quantity === quantity ? shown.zoom : null;
  const lines = order.map((trial) => ({
    id: trial.id, name: trial.trial, style: styles.get(trial.id), x: trial.curve.epoch, y: trial.curve[quantity],
    ends: trial.curve.cycle_end,
  }));
  shown = { chart, lines, quantity, onPick, zoom, under: null };
  chart.lines = lines;
  if (!chart.querySelector("canvas")) build(chart);
  chart.querySelector("canvas").setAttribute("aria-label", inWords(begun, quantity));
  drawLegend(chart.querySelector(".legend"));
  paint();
}

function build(chart) {
  const legend = element("div", { class: "legend", role: "group", "aria-label": "Legend" });
  const canvas = element("canvas", { role: "img" });
  const hint = element("div", { class: "hint", hidden: true });
  const whole = element("button", { type: "button", class: "plain whole", hidden: true, onclick: () => zoomTo(null) }, "Show the whole chart");
  const save = element("button", { type: "button", class: "plain save", onclick: () => savePicture(canvas) }, "Save as a picture");
  const box = element("div", { class: "box", hidden: true });
  chart.replaceChildren(legend, element("div", { class: "plot" }, canvas, box, hint), element("p", { class: "tools" }, whole, save));
  listen(canvas, hint, box);
  new ResizeObserver(() => paint()).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint());
}

function drawLegend(legend) {
  const labels = new Map();
  for (const line of [...shown.lines].reverse()) if (!labels.has(line.style.label)) labels.set(line.style.label, line);
  const focused = legend.contains(document.activeElement) ? document.activeElement.textContent : null;
  legend.replaceChildren(
    ...[...labels].map(([label, line]) => {
      const swatch = element("span", { class: "stroke" });
      swatch.style.setProperty("--colour", line.style.colour);
      const act = () => {
        if (line.style.own) return shown.onPick(line.id);
        if (!hidden.delete(label)) hidden.add(label);
        drawLegend(legend);
        paint();
      };
      return element("button", { type: "button", class: "entry", "aria-pressed": String(!hidden.has(label)), onclick: act }, swatch, label);
    }),
  );
  if (focused) [...legend.children].find((entry) => entry.textContent === focused)?.focus();
}

const visible = () => shown.lines.filter((line) => line.style.own || !hidden.has(line.style.label));

// The data's ranges, or what was zoomed to: [from, to] of epochs and values.
function ranges() {
  if (shown.zoom) return shown.zoom;
  const range = { x: [Infinity, -Infinity], y: [Infinity, -Infinity] };
  const widen = (pair, value) => {
    if (value < pair[0]) pair[0] = value;
    if (value > pair[1]) pair[1] = value;
  };
  for (const line of visible()) {
    widen(range.x, line.x[0]);
    widen(range.x, line.x.at(-1));
    for (const value of line.y) if (value !== null) widen(range.y, value);
  }
  if (shown.quantity === "learning_rate") range.y[0] = 0;
  for (const pair of [range.x, range.y]) {
    if (!Number.isFinite(pair[0])) [pair[0], pair[1]] = [0, 1];
    if (pair[0] === pair[1]) [pair[0], pair[1]] = [pair[0] - 0.5, pair[1] + 0.5];
  }
  const margin = 0.04 * (range.y[1] - range.y[0]);
  return { x: range.x, y: [range.y[0] - (shown.quantity === "learning_rate" ? 0 : margin), range.y[1] + margin] };
}

function scales(width) {
  const { x, y } = ranges();
  const [across, down] = [width - LEFT - RIGHT, HEIGHT - TOP - BOTTOM];
  return {
    x, y, width,
    left: (epoch) => LEFT + ((epoch - x[0]) / (x[1] - x[0])) * across,
    top: (value) => TOP + (1 - (value - y[0]) / (y[1] - y[0])) * down,
    epoch: (left) => x[0] + ((left - LEFT) / across) * (x[1] - x[0]),
    value: (top) => y[0] + (1 - (top - TOP) / down) * (y[1] - y[0]),
  };
}

// Round numbers inside a range, about so many.
function ticks([low, high], about, whole = false) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + 1e-9 * step; number++) found.push(number * step);
  return found;
}

function paint() {
  const canvas = shown.chart.querySelector("canvas");
  const width = canvas.clientWidth;
  if (!width) return;
  const density = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * density)) canvas.width = Math.round(width * density);
  if (canvas.height !== Math.round(HEIGHT * density)) canvas.height = Math.round(HEIGHT * density);
  const pen = canvas.getContext("2d");
  pen.setTransform(density, 0, 0, density, 0, 0);
  pen.clearRect(0, 0, width, HEIGHT);
  shown.scales = scales(width);
  shown.chart.querySelector(".whole").hidden = !shown.zoom;
  const colours = getComputedStyle(canvas);
  const [ink, rule] = [colours.getPropertyValue("--quiet"), colours.getPropertyValue("--rule")];
  drawAxes(pen, shown.scales, ink, rule);
  pen.save();
  pen.beginPath();
  pen.rect(LEFT - 1, 0, width - LEFT - RIGHT + 2, HEIGHT - BOTTOM + 1);
  pen.clip();
  drawMarks(pen, shown.scales, rule);
  const lines = visible();
  for (const line of lines) drawLine(pen, line, shown.scales, lines.length <= FEW || line.style.rank < 1);
  if (shown.under) drawLine(pen, { ...shown.under.line, style: { ...shown.under.line.style, width: 3, opacity: 1 } }, shown.scales, true);
  pen.restore();
}

function drawAxes(pen, scale, ink, rule) {
  pen.font = "12px system-ui, sans-serif";
  pen.lineWidth = 1;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const value of ticks(scale.y, 5)) {
    const y = Math.round(scale.top(value)) + 0.5;
    pen.strokeStyle = rule;
    line(pen, LEFT, y, scale.width - RIGHT, y);
    pen.fillStyle = ink;
    pen.fillText(written(value), LEFT - 8, y);
  }
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const epoch of ticks(scale.x, Math.max(3, Math.min(10, scale.width / 90)), true)) pen.fillText(String(epoch), scale.left(epoch), HEIGHT - BOTTOM + 6);
  pen.fillText("Epoch", (LEFT + scale.width - RIGHT) / 2, HEIGHT - 16);
}

function written(value) {
  if (shown.quantity === "accuracy") return `${Number((100 * value).toFixed(1))}%`;
  if (shown.quantity === "learning_rate" && value) return value < 0.001 ? scientific(value) : String(Number(value.toPrecision(3)));
  return String(Number(value.toPrecision(3)));
}

function drawMarks(pen, scale, rule) {
  const ends = new Set();
  for (const { x, ends: marks } of shown.lines) marks.forEach((end, index) => end && ends.add(x[index]));
  if (ends.size > MARKS) return;
  pen.strokeStyle = rule;
  pen.setLineDash([2, 3]);
  for (const epoch of ends) line(pen, Math.round(scale.left(epoch)) + 0.5, TOP, Math.round(scale.left(epoch)) + 0.5, HEIGHT - BOTTOM);
  pen.setLineDash([]);
}

function line(pen, x, y, toX, toY) {
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(toX, toY);
  pen.stroke();
}

function drawLine(pen, { x, y, ends, style }, scale, dots) {
  pen.globalAlpha = style.opacity;
  pen.strokeStyle = pen.fillStyle = style.colour;
  pen.lineWidth = style.width;
  pen.lineJoin = "round";
  pen.beginPath();
  // Epochs that were not validated have no value: the line leads over them.
  x.forEach((epoch, index) => y[index] !== null && pen.lineTo(scale.left(epoch), scale.top(y[index])));
  pen.stroke();
  pen.globalAlpha = 1;
  for (let index = 0; index < x.length; index++) {
    if (y[index] === null || !(x.length === 1 || (dots && ends[index]))) continue;
    pen.beginPath();
    pen.arc(scale.left(x[index]), scale.top(y[index]), x.length === 1 ? 2 : 3, 0, 2 * Math.PI);
    pen.fill();
  }
}

// The point nearest to a place, if one is near.
function pointAt(left, top) {
  let [best, found] = [NEAR ** 2, null];
  for (const line of visible()) {
    for (let index = 0; index < line.x.length; index++) {
      if (line.y[index] === null) continue;
      const away = (shown.scales.left(line.x[index]) - left) ** 2 + (shown.scales.top(line.y[index]) - top) ** 2;
      if (away <= best) [best, found] = [away, { line, index }];
    }
  }
  return found;
}

function listen(canvas, hint, box) {
  let from = null;
  let waiting = null;
  const place = (event) => [event.offsetX, event.offsetY];
  const show = (found) => {
    if (found?.line === shown.under?.line && found?.index === shown.under?.index) return;
    const other = found?.line !== shown.under?.line;
    shown.under = found;
    if (other) paint();
    hint.hidden = !found;
    if (!found) return;
    const value = found.line.y[found.index];
    const text = shown.quantity === "accuracy" ? percent(value) : shown.quantity === "learning_rate" ? scientific(value) : fixed(value);
    hint.replaceChildren(found.line.name, element("br"), `epoch ${found.line.x[found.index]}: `, element("strong", {}, text));
    const left = shown.scales.left(found.line.x[found.index]);
    hint.classList.toggle("leftward", left > shown.scales.width / 2);
    hint.style.left = `${left}px`;
    hint.style.top = `${shown.scales.top(value)}px`;
  };
  canvas.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (from) {
      const [left, top] = [Math.min(from[0], at[0]), Math.min(from[1], at[1])];
      box.hidden = Math.hypot(at[0] - from[0], at[1] - from[1]) <= CLICK;
      Object.assign(box.style, { left: `${left}px`, top: `${top}px`, width: `${Math.abs(at[0] - from[0])}px`, height: `${Math.abs(at[1] - from[1])}px` });
      return;
    }
    waiting ??= requestAnimationFrame(() => {
      waiting = null;
      show(pointAt(...at));
    });
  });
  canvas.addEventListener("pointerleave", () => show(null));
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button) return; // a finger on a chart scrolls the page
    from = place(event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!from) return;
    const [at, start] = [place(event), from];
    [from, box.hidden] = [null, true];
    if (Math.hypot(at[0] - start[0], at[1] - start[1]) > CLICK) zoomTo(region(start, at));
  });
  canvas.addEventListener("click", (event) => {
    const found = pointAt(...place(event));
    if (found && box.hidden) shown.onPick(found.line.id);
  });
  canvas.addEventListener("dblclick", () => zoomTo(null));
}

// Of two corners in pixels. A flat box keeps all values, a narrow one all epochs.
function region(one, other) {
  const { x, y, epoch, value } = shown.scales;
  const sorted = (pair) => pair.sort((low, high) => low - high);
  return {
    x: Math.abs(one[0] - other[0]) > 3 * CLICK ? sorted([epoch(one[0]), epoch(other[0])]) : x,
    y: Math.abs(one[1] - other[1]) > 3 * CLICK ? sorted([value(one[1]), value(other[1])]) : y,
  };
}

function zoomTo(region) {
  shown.zoom = region;
  paint();
}

function savePicture(canvas) {
  canvas.toBlob((picture) => {
    const link = element("a", { href: URL.createObjectURL(picture), download: `${shown.quantity}.png` });
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

function inWords(trials, quantity) {
  const write = quantity === "accuracy" ? percent : fixed;
  const ends = trials.slice(0, 6).map((trial) => `${trial.trial} is at ${write(trial.curve[quantity].at(-1))} after epoch ${trial.epoch}`);
  return `${words(QUANTITIES[quantity])} over epochs of ${trials.length} trainings. ${ends.join("; ")}`;
}
