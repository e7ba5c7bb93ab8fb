// The table of trainings. Rows are kept between two states, so that focus and selected text stay where they are.
import { element } from "/dom.js";
import { duration, fixed, percent, rate, scientific, setting } from "/format.js";
import { isBest } from "/styles.js";

const COLUMNS = [
  { key: "trial", title: "Training", value: (trial) => trial.trial },
  { key: "stage", title: "Stage", value: (trial) => trial.stage, write: (text) => text },
  { key: "state", title: "State", value: (trial) => trial.state },
  { key: "epoch", title: "Epoch", number: true, value: (trial) => trial.epoch },
  { key: "accuracy", title: "Accuracy", number: true, down: true, value: (trial) => trial.accuracy, write: percent },
  { key: "log_loss", title: "Log loss", number: true, value: (trial) => trial.log_loss, write: fixed },
  { key: "learning_rate", title: "Learning rate", number: true, value: (trial) => trial.learning_rate, write: scientific },
  { key: "clips_per_second", title: "Clips/s", number: true, value: (trial) => trial.clips_per_second, write: rate },
  { key: "seconds", title: "Time", number: true, value: (trial) => trial.seconds, write: duration },
];
const rows = new Map(); // by the trial's id
const MARGIN = 15; // rows that are drawn above and below what is seen
const MANY = 80; // rows from which those alone are drawn that are seen
let height = 34; // pixels of a row, as measured last
let again = null; // draws the table as it was drawn last
const filled = new WeakMap(); // what each row shows

function columnsFor(trials) {
  const names = [...new Set(trials.flatMap((trial) => Object.keys(trial.settings)))];
  const short = (name) => name.split(".").at(-1);
  const alone = (name) => names.filter((other) => short(other) === short(name)).length === 1;
  const settings = names.map((name) => ({
    key: `settings/${name}`, title: alone(name) ? short(name) : name, hint: name, number: true,
    value: (trial) => trial.settings[name], write: setting,
  }));
  const one = new Set(trials.map((trial) => trial.stage)).size === 1;
  return [...COLUMNS.filter((column) => !(one && column.key === "stage")), ...settings];
}

const ALPHABET = new Intl.Collator("en", { numeric: true });

// What is missing comes last, whichever way the column is sorted.
function compare(column, down) {
  const missing = (value) => value === null || value === undefined;
  return (one, other) => {
    const [a, b] = [column.value(one), column.value(other)];
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const way = typeof a === "number" && typeof b === "number" ? a - b : ALPHABET.compare(String(a), String(b));
    return down ? -way : way;
  };
}

export function drawTable(table, trials, state, styles, view, redraw) {
  const columns = columnsFor(trials);
  const sorted = columns.find((column) => column.key === view.sort.key) ?? columns[0];
  drawHead(table.tHead.rows[0], columns, view, redraw);
  const sortedTrials = [...trials].sort(compare(sorted, view.sort.down));
  const leading = sortedTrials.filter((trial) => isBest(trial, state));
  const order = view.sort.chosen ? sortedTrials : [...new Set([...leading, ...sortedTrials])];
  const frame = table.parentElement;
  frame.classList.toggle("many", order.length > MANY);
  again = () => {
    const [from, to] = seen(frame, order.length);
    const wanted = order.slice(from, to).map((trial) => {
      const row = rows.get(trial.id) ?? newRow(trial.id, view, redraw);
      fill(row, trial, columns, state, styles.get(trial.id), view.picked.has(trial.id));
      return row;
    });
    if (from > 0) wanted.unshift(gap(from));
    if (to < order.length) wanted.push(gap(order.length - to));
    const body = table.tBodies[0];
    if (wanted.length !== body.rows.length || wanted.some((row, index) => row !== body.rows[index])) body.replaceChildren(...wanted);
    table.setAttribute("aria-rowcount", String(order.length + 1));
    keepWidths(table.tHead.rows[0]);
  };
  again();
  if (!frame.onscroll) frame.onscroll = () => requestAnimationFrame(() => again());
}

// The first and last row to draw: all of a few, of many those that are seen.
function seen(frame, count) {
  if (count <= MANY) return [0, count];
  height = frame.querySelector("tbody tr:not(.gap)")?.offsetHeight || height;
  const first = Math.min(Math.floor(frame.scrollTop / height), count - 1);
  return [Math.max(0, first - MARGIN), Math.min(count, first + Math.ceil(frame.clientHeight / height) + MARGIN)];
}

// In the place of so many rows.
function gap(count) {
  const cell = element("td");
  cell.style.height = `${count * height}px`;
  return element("tr", { class: "gap", "aria-hidden": "true" }, cell);
}

// Columns do not grow narrow again while one scrolls through rows of other widths.
function keepWidths(head) {
  for (const cell of head.cells) if (cell.offsetWidth > (parseFloat(cell.style.minWidth) || 0)) cell.style.minWidth = `${cell.offsetWidth}px`;
}

function drawHead(head, columns, view, redraw) {
  const shown = JSON.stringify([columns.map((column) => column.key), view.sort]);
  if (filled.get(head) === shown) return;
  const focused = document.activeElement?.dataset?.column;
  filled.set(head, shown);
  head.replaceChildren(
    ...columns.map((column) => {
      const active = column.key === view.sort.key;
      const sort = () => {
        view.sort = { key: column.key, down: active ? !view.sort.down : Boolean(column.down), chosen: true };
        redraw();
      };
      const button = element("button", { type: "button", class: "sort", title: column.hint ?? null, onclick: sort, "data-column": column.key }, column.title);
      const direction = active ? (view.sort.down ? "descending" : "ascending") : null;
      return element("th", { scope: "col", class: column.number ? "number" : "", "aria-sort": direction }, button);
    }),
  );
  if (focused) [...head.querySelectorAll("button")].find((button) => button.dataset.column === focused)?.focus();
}

function newRow(id, view, redraw) {
  const toggle = () => {
    if (!view.picked.delete(id)) view.picked.add(id);
    redraw();
  };
  const row = element("tr", { "data-id": id });
  row.addEventListener("click", (event) => {
    if (!event.target.closest("a") && !String(getSelection())) toggle();
  });
  rows.set(id, row);
  return row;
}

function fill(row, trial, columns, state, style, picked) {
  const shown = JSON.stringify([trial.version, columns.map((column) => column.key), isBest(trial, state), state.best_is_final, style, picked]);
  if (filled.get(row) === shown) return;
  filled.set(row, shown);
  const focused = row.contains(document.activeElement);
  row.className = [isBest(trial, state) ? "chosen" : "", picked ? "picked" : ""].join(" ").trim();
  row.replaceChildren(...columns.map((column) => cell(column, trial, state, style, picked)));
  if (focused) row.querySelector("button").focus();
}

function cell(column, trial, state, style, picked) {
  if (column.key === "trial") return title(trial, style, picked);
  if (column.key === "state") return element("td", { class: "pair" }, ...badges(trial, state));
  if (column.key === "epoch") {
    const track = element("progress", { max: trial.epochs, value: trial.epoch, "aria-hidden": "true" });
    const far = `${trial.epoch} / ${trial.epochs}`;
    return element("td", { class: "number epochs" }, far, trial.state === "running" ? track : null);
  }
  return element("td", { class: column.number ? "number" : "" }, column.write(column.value(trial)));
}

function title(trial, style, picked) {
  const swatch = element("span", { class: "swatch" });
  swatch.style.setProperty("--colour", style.colour);
  const name = element("button", { type: "button", class: "pick", "aria-pressed": String(picked) }, swatch, element("code", {}, trial.trial));
  return element("th", { scope: "row" }, name, ...(trial.failure ? [failure(trial)] : []));
}

function failure(trial) {
  return element("span", { class: "failure" }, trial.failure, ...(trial.log ? [" ", element("a", { href: logOf(trial), target: "_blank" }, "log")] : []));
}

export const logOf = (trial) => `/log/${encodeURIComponent(trial.stage)}/${encodeURIComponent(trial.trial)}`;

function badges(trial, state) {
  const own = element("span", { class: `state ${trial.state}` }, trial.state);
  if (!isBest(trial, state)) return [own];
  return [own, " ", element("span", { class: "state best" }, state.best_is_final ? "best" : "best so far")];
}
