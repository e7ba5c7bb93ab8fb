// Which colour a trial has, in curves and table alike.
import { FAINT, PALETTE, STATES } from "/names.js";

const ORDER = Object.keys(STATES);

// A few trials have a colour each; where there are many, the colour shows the state. Selected trials stand out.
export function stylesOf(trials, state, picked) {
  const few = trials.length <= PALETTE.length;
  const chosen = trials.filter((trial) => picked.has(trial.id)).map((trial) => trial.id);
  const styles = new Map();
  trials.forEach((trial, index) => {
    const best = isBest(trial, state);
    const group = best ? "best" : trial.state;
    const own = { label: trial.trial, own: true, rank: -1, width: 2.2, opacity: 1 };
    if (chosen.includes(trial.id)) {
      styles.set(trial.id, { ...own, colour: PALETTE[(few ? index : chosen.indexOf(trial.id)) % PALETTE.length] });
    } else if (chosen.length) {
      styles.set(trial.id, { label: "others", own: false, rank: 9, width: 1, opacity: 0.3, colour: FAINT });
    } else if (few) {
      styles.set(trial.id, { ...own, width: best ? 2.6 : 1.8, colour: PALETTE[index] });
    } else {
      const label = best ? `best${state.best_is_final ? "" : " so far"}` : group;
      styles.set(trial.id, {
        label, own: false, rank: ORDER.indexOf(group), width: best ? 2.6 : 1.2,
        opacity: best ? 1 : Math.max(0.12, Math.min(0.65, 60 / trials.length)),
        colour: STATES[group] ?? FAINT,
      });
    }
  });
  return styles;
}

export const isBest = (trial, state) => trial.stage === "search" && trial.trial === state.best;
