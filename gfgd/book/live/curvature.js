/* λmin along a flow as a curve of straight pieces, and what the signed formula makes of it:
   ½ η β γ (t) exp(−∫λ), with a gap of ε the largest η. */
window.gfgdCurvature = (root, settings) => {
  "use strict";
  const L = window.gfgdScene;
  const { horizon: T, smoothness: beta, gradient: gamma } = settings;
  const CELLS = 200, width = T / CELLS;
  const knots = [0, T / 2, T];
  const curve = ({ first, middle, last }, t) =>
    t < T / 2 ? first + ((middle - first) * 2 * t) / T : middle + ((last - middle) * (2 * t - T)) / T;

  /* As gfgd.bounds.signed_step_size: the mean of −λ on each cell. */
  function computed(state) {
    const ends = Array.from({ length: CELLS + 1 }, (_, i) => i * width);
    const means = Array.from({ length: CELLS }, (_, i) => -curve(state, (i + 0.5) * width));
    let grown = 0, largest = -Infinity;
    const rates = [0];
    means.forEach((mean, i) => {
      const [begin, end] = [ends[i], ends[i + 1]];
      const peak = Math.min(end, Math.max(begin, mean < 0 ? -1 / mean : end));
      largest = Math.max(largest, Math.log(peak) + grown + mean * (peak - begin));
      grown += mean * width;
      rates.push(grown);
    });
    const damping = Math.max(0, -Math.min(...means));
    const goal = Math.log((2 * state.distance) / (beta * gamma)) - largest;
    // log η + η m₋ = goal, by Newton's method from where η m₋ is left out.
    let log = goal;
    for (let i = 0; i < 60; i++) {
      const term = damping * Math.exp(log);
      log -= (log + term - goal) / (1 + term);
    }
    return { ends, rates, step: Math.min(Math.exp(log), 2 / (beta + damping)), stretch: Math.exp(grown) };
  }

  const ticks = (values) => values.map((v) => [v, L.number(v)]);
  window.gfgdCurves(root, {
    label: "A curve of the smallest eigenvalue along the flow, and the bound on the distance that follows from it",
    panels: 2,
    sliders: [
      { key: "power", label: "gap <i>ε</i>", min: -4, max: -1, step: 0.25,
        show: (v) => L.number(10 ** v, 2) },
    ],
    handles: ["first", "middle", "last"].map((key, i) => ({
      key, panel: 0, x: () => knots[i], min: -beta, max: beta, step: 0.05,
      name: `Smallest eigenvalue at time ${knots[i]}; arrow keys move it, with shift ten times as far`,
    })),
    compute(state) {
      const found = computed({ ...state, distance: 10 ** state.power });
      const shape = knots.map((t, i) => [t, [state.first, state.middle, state.last][i]]);
      const fine = found.ends.map((t) => [t, Math.min(0, curve(state, t))]);
      const logs = found.ends.slice(1).map((t, i) =>
        [t, (Math.log(0.5 * beta * gamma * t) + found.rates[i + 1]) / Math.LN10]);
      const steps = Math.ceil(T / found.step - 1e-9);
      return {
        panels: [
          { title: "λmin along the flow", xlabel: "time t", x: [0, T], y: [-beta, beta], xticks: ticks(knots),
            yticks: ticks([-beta, 0, beta]), levels: [{ y: 0, name: "0" }],
            areas: [{ cls: "bound", points: [[0, 0], ...fine, [T, 0]] }],
            lines: [{ cls: "flow thick", points: shape, name: "λmin" }] },
          { title: "bound on the distance, over η", xlabel: "time t", x: [0, T], y: [-3, 5], xticks: ticks(knots),
            yticks: [-2, 0, 2, 4].map((v) => [v, L.power(v)]),
            lines: [{ cls: "bound", points: logs, name: "bound ÷ η" }] },
        ],
        result: { stretch: found.stretch, coefficient: 10 ** logs.at(-1)[1], step_size: found.step },
        message: `The flow multiplies errors by ${L.number(found.stretch)} at most. To stay within ` +
          `${L.number(10 ** state.power, 2)} until t = ${T} a step of ${L.number(found.step)} is proved to do: ` +
          `${steps.toLocaleString("en").replaceAll(",", "\u202f")} steps.`,
      };
    },
  }, settings);
};
