// Asks for the run's state and draws what has changed.
import { drawCurves } from "/curves.js";
import { changed, element, find } from "/dom.js";
import { clock, duration, fixed, percent, share, words } from "/format.js";
import { QUANTITIES, SAMPLE, STAGES } from "/names.js";
import { drawParallel } from "/parallel.js";
import { stylesOf } from "/styles.js";
import { drawTable, logOf } from "/table.js";

const EVERY = 2000; // milliseconds between two questions
const FAILURES = 50; // of which the text is offered below; all are in the table
const PATIENCE = 15000; // milliseconds until an answer

// What the reader chose. The stage follows the run until one is chosen.
const view = { stage: null, quantity: "accuracy", sort: { key: null, down: false, chosen: false }, picked: new Set() };
let state = null;
const trials = new Map(); // by id, in the order of their stages and numbers
let tag = "";
let trouble = null; // why the server gives no state, and since when

async function ask() {
  try {
    const headers = tag ? { "If-None-Match": `"${tag}"` } : {};
    const answer = await fetch(`/state.json?since=${tag}`, { headers, signal: AbortSignal.timeout(PATIENCE) });
    if (answer.status === 200) take(await answer.json());
    const reason = answer.ok || answer.status === 304 ? null : (await answer.text()).trim();
    trouble = reason && { reason, since: trouble?.since ?? Date.now() };
  } catch {
    trouble = { reason: "the server of this page does not answer; is `stillhouse watch` still running?", since: trouble?.since ?? Date.now() };
  }
  setTimeout(ask, EVERY);
  draw();
}

// The whole state, or what has changed of it.
function take(news) {
  if (news.whole) trials.clear();
  for (const trial of news.trials) trials.set(trial.id, { ...trial, version: news.tag });
  const order = new Map(STAGES.map((stage, index) => [stage, index]));
  const sorted = [...trials.values()].sort((one, other) => order.get(one.stage) - order.get(other.stage) || one.number - other.number);
  state = { parallel: state?.parallel ?? null, ...news, trials: sorted };
  tag = news.tag;
}

function draw() {
  drawNotices();
  if (!state) return;
  document.title = `${state.name} · ${state.gone ? "driver gone" : state.state} · Stillhouse`;
  find("name").textContent = state.name;
  if (changed("verdict", verdict())) find("verdict").replaceChildren(...verdict().map(([text, kind]) => element("span", { class: kind }, text)));
  if (changed("strip", state.stages)) find("strip").replaceChildren(...state.stages.map(stageCard));
  drawTiles();
  drawTrainings();
  drawSearch();
  drawFailures();
}

function verdict() {
  const shown = state.gone ? "driver gone" : state.state;
  const ended = shown === "running" ? `for ${duration(state.seconds)}` : `after ${duration(state.seconds)}`;
  return [[shown, `pill ${state.gone ? "gone" : state.state}`], [` ${ended}; started ${clock(state.started)}`, "quiet"], [state.run === state.name ? "" : `, folder ${state.run}`, "quiet"]];
}

function drawNotices() {
  const notices = [];
  if (trouble) notices.push(["bad", "No news", `since ${clock(trouble.since)}: ${trouble.reason}`]);
  if (state?.gone) {
    notices.push(["bad", "The driver is gone:", `its last sign of life was at ${clock(state.updated)}. What is finished is kept; the same command goes on from there.`]);
  }
  if (state?.message) notices.push([state.state === "failed" ? "bad" : "", state.state === "failed" ? "The run failed:" : "", state.message]);
  if (state?.outcome) notices.push(["", "Distilled minus plain:", state.outcome]);
  if (state?.generated) notices.push(["", "Generated corpus:", "these accuracies prove the plumbing and mean nothing outside it."]);
  if (!changed("notices", notices)) return;
  find("notices").replaceChildren(...notices.map(([kind, start, text]) => element("p", { class: `notice ${kind}` }, element("strong", {}, start), ` ${text}`)));
}

function stageCard(stage) {
  const done = ["finished", "reused"].includes(stage.state);
  const bar = element("progress", { max: 1, "aria-label": stage.name });
  if (done) bar.value = 1;
  else if (stage.total > 0) bar.value = stage.done / stage.total;
  else if (stage.state !== "running") bar.value = 0;
  const far = !done && stage.total > 0 ? ` ${share(stage.done / stage.total)}` : "";
  const shown = state.gone && stage.state === "running" ? "interrupted" : stage.state;
  return element(
    "li", { class: shown },
    element("span", { class: "title" }, stage.name),
    element("span", { class: `state ${shown}` }, shown + far),
    bar,
    element("span", { class: "quiet" }, stage.seconds ? duration(stage.seconds) : ""),
    element("span", { class: "detail" }, stage.detail ?? ""),
  );
}

function drawTiles() {
  const best = state.trials.find((trial) => trial.stage === "search" && trial.trial === state.best);
  const counts = {};
  for (const trial of state.trials) counts[trial.state] = (counts[trial.state] ?? 0) + 1;
  const rates = state.trials.filter((trial) => trial.state === "running").map((trial) => trial.clips_per_second ?? 0);
  const soFar = state.best_is_final ? "of the best trial" : "of the best trial so far";
  const tiles = [
    ["Trainings", String(state.trials.length), Object.entries(counts).map(([name, count]) => `${count} ${name}`).join(", ")],
    ...(best ? [["Accuracy", percent(best.accuracy), `${soFar}, on validation`], ["Log loss", fixed(best.log_loss), `${soFar}, on validation`]] : []),
    ...(rates.length ? [["Clips a second", Math.round(rates.reduce((sum, rate) => sum + rate, 0)).toLocaleString("en"), "of all that train now"]] : []),
  ];
  find("tiles").hidden = !state.trials.length;
  if (!changed("tiles", tiles)) return;
  find("tiles").replaceChildren(
    ...tiles.map(([title, value, note]) => element("div", {}, element("dt", {}, title), element("dd", {}, value), element("dd", { class: "quiet" }, note))),
  );
}

function drawTrainings() {
  const stages = STAGES.filter((stage) => state.trials.some((trial) => trial.stage === stage));
  find("nothing").hidden = stages.length > 0;
  find("trainings").hidden = !stages.length;
  if (!stages.length) return;
  const stage = stages.includes(view.stage) || view.stage === "all" ? view.stage : stages.at(-1);
  const trials = state.trials.filter((trial) => stage === "all" || trial.stage === stage);
  if (!view.sort.chosen) view.sort = { key: state.select_by, down: state.select_by === "accuracy", chosen: false };
  choice("stage", [...stages, ...(stages.length > 1 ? ["all"] : [])], stage, (name) => name[0].toUpperCase() + name.slice(1));
  const quantities = measured(trials);
  const quantity = quantities.includes(view.quantity) ? view.quantity : quantities[0];
  choice("quantity", quantities, quantity, (name) => words(name)[0].toUpperCase() + words(name).slice(1));
  find("clear").hidden = !view.picked.size;
  const styles = stylesOf(trials, state, view.picked);
  drawTable(find("trials"), trials, state, styles, view, draw);
  find("curves-title").textContent = QUANTITIES[quantity];
  if (changed("curves", [quantity, [...styles], trials.map((trial) => trial.version)])) {
    drawCurves(find("curves"), trials, styles, quantity, pick);
  }
}

// A run that trains on everything has nothing to validate on. Before the first epoch all are offered.
function measured(trials) {
  const begun = trials.filter((trial) => trial.curve.epoch.length);
  const names = Object.keys(QUANTITIES);
  return begun.length ? names.filter((name) => begun.some((trial) => trial.curve[name].some((value) => value !== null))) : names;
}

function choice(part, names, chosen, title) {
  if (!changed(part, [names, chosen])) return;
  const group = find(part);
  const focused = group.contains(document.activeElement);
  const choose = (name) => {
    view[part] = name;
    draw();
  };
  group.replaceChildren(
    ...names.map((name) => element("button", { type: "button", "aria-pressed": String(name === chosen), onclick: () => choose(name) }, title(name))),
  );
  if (focused) group.querySelector("[aria-pressed=true]").focus();
}

function pick(trial) {
  if (!view.picked.delete(trial)) view.picked.add(trial);
  draw();
}

function drawSearch() {
  find("search").hidden = !state.trials.some((trial) => trial.stage === "search");
  if (find("search").hidden) return;
  const width = find("search").clientWidth;
  if (changed("parallel", [state.parallel?.trials, state.parallel?.axes, [...view.picked], width])) {
    if (state.parallel) drawParallel(find("parallel"), state.parallel, view.picked, pick);
    else find("parallel").replaceChildren(element("p", { class: "quiet" }, "They need two trials that did not fail and a setting that varies."));
  }
  if (changed("importances", [state.importances, state.no_importances])) {
    find("importances").replaceChildren(state.importances.length ? importances() : element("p", {}, state.no_importances));
  }
}

function importances() {
  const rows = state.importances.map(([name, part]) => {
    const bar = element("td", { class: "bar" }, share(part));
    bar.style.setProperty("--share", part);
    return element("tr", {}, element("th", { scope: "row" }, name), bar);
  });
  const caption = `Share of the variance of validation ${words(state.select_by)} (fANOVA) over the trials that have ended, or ${SAMPLE} of them. Stopped ones count with the value they were stopped at, so with few trials this is a hint, not a finding.`;
  return element("div", { class: "scroll" }, element("table", { class: "narrow" }, element("caption", {}, caption), element("tbody", {}, ...rows)));
}

function drawFailures() {
  const all = state.trials.filter((trial) => trial.state === "failed");
  const failed = all.slice(0, FAILURES);
  find("failures").hidden = !failed.length;
  find("more-failures").textContent = all.length > failed.length ? `and ${all.length - failed.length} more, in the table above` : "";
  if (!changed("failures", failed.map((trial) => [trial.id, trial.failure, trial.log]))) return;
  find("failed").replaceChildren(
    ...failed.map((trial) => {
      const text = element("pre", {}, trial.log ? "…" : "There is no log of it.");
      const log = element("details", {}, element("summary", {}, element("code", {}, trial.trial), element("span", { class: "failure" }, trial.failure ?? "")), text);
      log.addEventListener("toggle", async () => {
        if (!log.open || !trial.log) return;
        text.textContent = await fetch(logOf(trial)).then((answer) => answer.text(), () => "The server of this page does not answer.");
      });
      return log;
    }),
  );
}

find("clear").addEventListener("click", () => {
  view.picked.clear();
  draw();
});
addEventListener("resize", draw);
ask();
