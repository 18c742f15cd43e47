/* A flow that meets a kink at 0: velocity `off` below it and `on` above, from two starts; and GD. */
window.gfgdKink = (root, settings) => {
  "use strict";
  const L = window.gfgdScene;
  const END = 4, START = -1, APART = 0.2;

  const kind = (off, on) => (off >= 0 ? (on >= 0 ? "switches on" : "slides") : on >= 0 ? "branches" : "switches off");
  /* Where a flow that begins below the kink is at time t. */
  const flow = (start, t, { off, on }) => {
    const meets = off > 0 ? -start / off : Infinity;
    return t <= meets ? start + off * t : on > 0 ? on * (t - meets) : 0;
  };
  function descent({ off, on, step }) {
    const points = [START], count = Math.floor(END / step + 1e-9);
    for (let k = 0; k < count; k++) points.push(points[k] + step * (points[k] > 0 ? on : off));
    return points;
  }

  window.gfgdCurves(root, {
    label: "Two flows and gradient descent that meet a kink, against time",
    panels: 1,
    sliders: [
      { key: "off", label: "below, <i>v</i>₋", min: 0.2, max: 1.5, step: 0.1, show: (v) => L.number(v, 2) },
      { key: "on", label: "above, <i>v</i>₊", min: -1.5, max: 1.5, step: 0.1, show: (v) => L.number(v, 2) },
      { key: "step", label: "step size <i>η</i>", min: 0.05, max: 0.5, step: 0.05, show: (v) => v.toFixed(2) },
    ],
    compute(state) {
      const times = Array.from({ length: 161 }, (_, i) => (END * i) / 160);
      const one = times.map((t) => [t, flow(START, t, state)]), other = times.map((t) => [t, flow(START + APART, t, state)]);
      const found = descent(state), name = kind(state.off, state.on);
      const apart = other.at(-1)[1] - one.at(-1)[1], time = (found.length - 1) * state.step;
      return {
        panels: [
          { title: "place across the kink", xlabel: "time t", x: [0, END], y: [-1.2, 2.4], levels: [{ y: 0, name: "kink" }],
            xticks: [0, 1, 2, 3, 4].map((v) => [v, String(v)]), yticks: [-1, 0, 1, 2].map((v) => [v, L.number(v)]),
            lines: [
              { cls: "flow thick", points: one, name: "GF" },
              { cls: "flow faint", points: other, name: "GF, shifted" },
              { cls: "descent", points: found.map((p, k) => [k * state.step, p]), name: "GD" },
            ] },
        ],
        result: { kind: name, flow: flow(START, time, state), descent: found.at(-1), iterations: found.length - 1,
          before: APART, after: apart },
        message: name === "slides" ? `Both sides lead to the kink: GF stays on it, and GD trembles within ${L.number(
            state.step * Math.max(state.off, -state.on))} of it.`
          : `The flow crosses, and the gap of ${APART} between two flows becomes ${L.number(apart)}: times v₊/v₋ = ` +
            `${L.number(state.on / state.off)}.`,
      };
    },
  }, settings);
};
