// Learning curves of the trials in the table, drawn by plotly.
import { fixed, percent, words } from "/format.js";
import { FAINT, PALETTE, QUANTITIES } from "/names.js";

// Plotly reads its texts as HTML.
const asText = (name) => name.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const numbers = new Map(); // plotly makes class names of what it knows traces by, so names of trials will not do

function numberOf(trial) {
  if (!numbers.has(trial)) numbers.set(trial, `trial${numbers.size}`);
  return numbers.get(trial);
}

function trace(trial, quantity, style, first) {
  return {
    uid: numberOf(trial.id),
    meta: style.own ? trial.id : null,
    x: trial.curve.epoch,
    y: trial.curve[quantity],
    text: asText(trial.trial),
    name: asText(style.label),
    legendgroup: style.label,
    showlegend: first,
    opacity: style.opacity,
    mode: "lines+markers",
    line: { color: style.colour, width: style.width },
    marker: {
      size: trial.curve.cycle_end.map((end) => (end ? 6 : trial.curve.epoch.length === 1 ? 4 : 0)),
      color: style.colour, opacity: 1, line: { width: 0 },
    },
    cliponaxis: false,
    hovertemplate: "%{text}<br>epoch %{x}: <b>%{y}</b><extra></extra>",
  };
}

function layout(quantity, ends, longest, height) {
  const mark = (epoch) => ({
    type: "line", xref: "x", yref: "paper", x0: epoch, x1: epoch, y0: 0, y1: 1, line: { width: 1, dash: "dot" },
  });
  return {
    height,
    margin: { l: 52, r: 8, t: 8, b: 44 },
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12 },
    hoverlabel: { bgcolor: "#20252c", bordercolor: "#20252c", font: { color: "#f2f4f6" }, namelength: -1 },
    hovermode: "closest",
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger on a chart scrolls the page
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "reversed" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: FAINT, activecolor: PALETTE[0] },
    shapes: [...ends].map(mark),
    showlegend: true,
    uirevision: quantity,
    xaxis: {
      showgrid: false, zeroline: false, title: { text: "Epoch", standoff: 6 }, dtick: longest <= 10 ? 1 : null,
      tickformat: "d",
    },
    yaxis: {
      zeroline: false, nticks: 6, tickformat: quantity === "accuracy" ? ".0%" : "",
      rangemode: quantity === "learning_rate" ? "tozero" : "normal",
    },
  };
}

export function drawCurves(chart, trials, styles, quantity, onPick) {
  const shown = trials.filter((trial) => trial.curve.epoch.length);
  // Lines drawn later lie on top, which those that stand out must; the legend has them first.
  const order = [...shown].reverse().sort((one, other) => styles.get(other.id).rank - styles.get(one.id).rank);
  const last = new Map(order.map((trial) => [styles.get(trial.id).label, trial.id]));
  const traces = order.map((trial) => {
    const style = styles.get(trial.id);
    return trace(trial, quantity, style, last.get(style.label) === trial.id);
  });
  const ends = new Set(shown.flatMap((trial) => trial.curve.epoch.filter((_, index) => trial.curve.cycle_end[index])));
  const longest = Math.max(0, ...shown.map((trial) => trial.epoch));
  chart.setAttribute("aria-label", inWords(shown, quantity));
  Plotly.react(chart, traces, layout(quantity, ends, longest, 380), {
    responsive: true,
    displayModeBar: "hover",
    displaylogo: false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // plotly's own choice has one that sends the chart out
    plotlyServerURL: "",
  });
  chart.removeAllListeners("plotly_legendclick");
  chart.on("plotly_legendclick", (event) => {
    const trial = event.data[event.curveNumber].meta;
    if (!trial) return true; // plotly hides and shows a group by itself
    onPick(trial);
    return false;
  });
}

function inWords(trials, quantity) {
  const write = quantity === "accuracy" ? percent : fixed;
  const ends = trials.slice(0, 6).map((trial) => `${trial.trial} is at ${write(trial.curve[quantity].at(-1))} after epoch ${trial.epoch}`);
  return `${words(QUANTITIES[quantity])} over epochs of ${trials.length} trainings. ${ends.join("; ")}`;
}
