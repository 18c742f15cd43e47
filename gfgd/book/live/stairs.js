/* The staircase from a measured distance to a bound: each step an inequality that can be taken out. */
window.gfgdStairs = (root, settings) => {
  "use strict";
  const L = window.gfgdScene;
  const { measured, factors } = settings;
  const log = Math.log10, count = factors.length;
  const low = Math.floor(log(measured)), high = Math.ceil(log(measured) + factors.reduce((sum, [, f]) => sum + Math.max(0, log(f)), 0));
  const start = Object.fromEntries(factors.map((_, i) => [`on${i}`, true]));

  window.gfgdCurves(root, {
    label: "A staircase from the measured distance to the bound, a step for each inequality that is counted",
    panels: 1,
    switches: factors.map(([name, factor], i) => ({ key: `on${i}`, label: `${i + 1}. ${name}: × ${L.number(factor)}` })),
    compute(state) {
      let total = log(measured);
      const areas = [], lines = [];
      factors.forEach(([, factor], i) => {
        const next = total + (state[`on${i}`] ? log(factor) : 0);
        areas.push({ cls: "bound", points: [[i + 0.5, total], [i + 1.5, total], [i + 1.5, next], [i + 0.5, next]] });
        lines.push({ cls: "bound", points: [[i + 0.5, next], [i + 1.5, next]], name: i === count - 1 ? "bound" : "" });
        total = next;
      });
      const bound = 10 ** total;
      return {
        panels: [
          { title: "distance, or bound on it", xlabel: "inequality", x: [0.5, count + 0.5], y: [low, high], areas, lines,
            xticks: factors.map((_, i) => [i + 1, String(i + 1)]),
            yticks: Array.from({ length: high - low + 1 }, (_, i) => low + i).filter((n) => (n - low) % 2 === 0).map((n) => [n, L.power(n)]),
            levels: [{ y: log(measured), name: "measured" }] },
        ],
        result: { bound },
        message: `The bound is ${L.number(bound)}, ${L.number(bound / measured)} times the distance that was measured.`,
      };
    },
  }, start);
};
