// Parallel coordinates: a line a trial across its settings and outcomes. Plotly's own need `eval`, which the page forbids.
import { drawing } from "/dom.js";
import { words } from "/format.js";

const HEIGHT = 340;
const TOP = 56;
const BOTTOM = 16;
const LEAST = 118; // pixels between two axes
const CLICK = 0.015; // a drag shorter than this share of an axis takes its mark away

const brushes = new Map(); // axis -> [low, high], both from 0 to 1

const down = (place) => TOP + (1 - place) * (HEIGHT - TOP - BOTTOM);
const placeAt = (y) => Math.min(1, Math.max(0, 1 - (y - TOP) / (HEIGHT - TOP - BOTTOM)));
const short = (name) => words(name.split(".").at(-1));

export function drawParallel(chart, found, picked, onPick) {
  const width = Math.max(chart.parentElement.clientWidth, LEAST * found.axes.length);
  const step = (width - 40 - LEAST * 0.6) / (found.axes.length - 1);
  const across = (index) => 40 + index * step;
  const lines = found.trials.map((trial, index) => line(found, trial, index, across, picked, onPick));
  const order = [...lines].sort((one, other) => one.classList.contains("picked") - other.classList.contains("picked"));
  const picture = drawing("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": inWords(found) });
  const redraw = () => lines.forEach((one, index) => one.classList.toggle("aside", isAside(found, index, picked)));
  picture.append(...order, ...found.axes.map((axis, index) => axisAt(axis, across(index), picture, redraw)));
  redraw();
  chart.replaceChildren(picture);
}

function line(found, trial, index, across, picked, onPick) {
  const points = found.axes.map((axis, position) => `${across(position).toFixed(1)},${down(axis.places[index]).toFixed(1)}`);
  const drawn = drawing("g", { class: picked.has(trial) ? "line picked" : "line", "data-id": trial }, drawing("title", {}, trial.split("/")[1]));
  for (const kind of ["reach", "seen"]) drawn.append(drawing("polyline", { class: kind, points: points.join(" ") }));
  drawn.lastChild.style.stroke = found.colours[index];
  drawn.addEventListener("click", () => onPick(trial));
  return drawn;
}

function isAside(found, index, picked) {
  const outside = ({ name, places }) => brushes.has(name) && (places[index] < brushes.get(name)[0] || places[index] > brushes.get(name)[1]);
  const shown = found.trials.some((trial) => picked.has(trial));
  return found.axes.some(outside) || (shown && !picked.has(found.trials[index]));
}

function axisAt(axis, x, picture, redraw) {
  const mark = drawing("rect", { class: "mark", x: x - 7, width: 14 });
  const touch = drawing("rect", { class: "touch", x: x - 14, width: 28, y: TOP - 8, height: HEIGHT - TOP - BOTTOM + 16 });
  const name = drawing("text", { class: "name", x, y: 20, "text-anchor": x < 60 ? "start" : "middle", dx: x < 60 ? -16 : 0 }, short(axis.name));
  name.append(drawing("title", {}, axis.name));
  const ticks = axis.ticks.map(([place, text]) => drawing("text", { class: "tick", x: x + 8, y: down(place), dy: "0.35em" }, text));
  const show = () => {
    const [low, high] = brushes.get(axis.name) ?? [0, 0];
    mark.setAttribute("y", down(high));
    mark.setAttribute("height", down(low) - down(high));
  };
  const place = (event) => placeAt(event.clientY - picture.getBoundingClientRect().top);
  touch.addEventListener("pointerdown", (event) => {
    const from = place(event);
    touch.setPointerCapture(event.pointerId);
    touch.onpointermove = (moved) => {
      brushes.set(axis.name, [Math.min(from, place(moved)), Math.max(from, place(moved))]);
      show();
      redraw();
    };
    touch.onpointerup = (moved) => {
      touch.onpointermove = touch.onpointerup = null;
      if (Math.abs(place(moved) - from) < CLICK) brushes.delete(axis.name);
      show();
      redraw();
    };
  });
  show();
  return drawing("g", { class: "axis" }, drawing("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }), mark, ...ticks, name, touch);
}

function inWords(found) {
  const names = found.axes.map((axis) => axis.name).join(", ");
  return `Parallel coordinates of ${found.trials.length} trials over ${names}. The table above has the same numbers.`;
}
