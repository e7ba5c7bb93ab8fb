// How numbers are written, the same as in the report. What is missing is a dash.

const MISSING = "–";
const orDash = (write) => (value) => (Number.isFinite(value) ? write(value) : MISSING);

export const percent = orDash((value) => `${(100 * value).toFixed(1)}%`);
export const share = orDash((value) => `${Math.round(100 * value)}%`);
export const fixed = orDash((value) => value.toFixed(3));
export const scientific = orDash((value) => value.toExponential(1).replace(/e([+-])(\d)$/, "e$10$2"));
export const rate = orDash((value) => (value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en")));

export const duration = orDash((seconds) => {
  if (seconds < 60) return `${Number(seconds.toFixed(seconds < 10 ? 1 : 0))} s`;
  const minutes = Math.floor(seconds / 60);
  const two = (number) => String(number).padStart(2, "0");
  if (minutes < 60) return `${minutes} min ${two(Math.floor(seconds % 60))} s`;
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
});

export function setting(value) {
  if (value === null || value === undefined) return MISSING;
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(3))) : String(value);
}

export function clock(time) {
  const moment = new Date(time);
  const today = moment.toDateString() === new Date().toDateString();
  const options = today ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat("en-GB", options).format(moment);
}

export const words = (name) => name.replaceAll("_", " ");
