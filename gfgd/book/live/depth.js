/* λmin of a deep linear network along gradient flow from an aligned balanced start, r_0 to L = 1, and
   on the opposite ray, where it falls for ever. On the flow r' = n (1 − r) r^{2−2/n}. */
window.gfgdDepth = (root, settings) => {
  "use strict";
  const L = window.gfgdScene;
  const POINTS = 200;
  const smallest = (r, n) => -(1 - r) * r ** ((n - 2) / n) * Math.max(1, n - 1 - (n * r) / (1 - r));
  const opposite = (r, n) => -(1 + r) * r ** ((n - 2) / n);
  /* ∫ −λmin dt from radius a to b: −λmin/r' is ((n−1) − nr/(1−r))/(nr) up to r = (n−2)/(2n−2), then 1/(nr). */
  function growth(a, b, n) {
    const turn = (n - 2) / (2 * n - 2);
    const early = (r) => ((n - 1) / n) * Math.log(r) + Math.log(1 - r), late = (r) => Math.log(r) / n;
    const [c, d] = [Math.min(Math.max(a, turn), b), Math.max(Math.min(b, turn), a)];
    return (d > a ? early(d) - early(a) : 0) + (b > c ? late(b) - late(c) : 0);
  }

  window.gfgdCurves(root, {
    label: "The smallest eigenvalue along gradient flow of a deep linear network, and the factor by which errors grow",
    panels: 2,
    sliders: [
      { key: "depth", label: "depth <i>n</i>", min: 2, max: 8, step: 1, show: String },
      { key: "power", label: "start <i>r</i>₀", min: -4, max: -0.5, step: 0.25, show: (v) => L.number(10 ** v, 2) },
    ],
    compute({ depth: n, power }) {
      const start = 10 ** power;
      const radii = Array.from({ length: POINTS + 1 }, (_, i) => start ** (1 - i / POINTS));
      const logs = radii.map((r) => Math.log10(r));
      const values = radii.map((r) => smallest(Math.min(r, 1 - 1e-15), n));
      const grown = radii.map((r) => growth(start, r, n));
      const bound = radii.map((r) => ((n - 1) / n) * Math.log(r / start));
      const total = grown.at(-1), top = Math.max(1, Math.ceil(bound.at(-1) / Math.LN10));
      const least = Math.min(...values);
      const decades = [-4, -3, -2, -1, 0].filter((v) => v >= power).map((v) => [v, v ? L.power(v) : "1"]);
      const line = (ys) => ys.map((y, i) => [logs[i], y]);
      return {
        panels: [
          { title: "λmin", xlabel: "length r of the product", x: [power, 0], y: [-2, 0.2], xticks: decades,
            yticks: [-2, -1, 0].map((v) => [v, L.number(v)]), levels: [{ y: 0, name: "0" }],
            lines: [
              { cls: "threshold", points: line(radii.map((r) => opposite(r, n))), name: "opposite" },
              { cls: "flow thick", points: line(values), name: "along GF" },
            ] },
          { title: "errors grow at most by", xlabel: "length r of the product", x: [power, 0], y: [0, top], xticks: decades,
            yticks: Array.from({ length: top + 1 }, (_, i) => [i, L.power(i)]),
            lines: [
              { cls: "bound", points: line(bound.map((g) => g / Math.LN10)), name: "bound" },
              { cls: "flow thick", points: line(grown.map((g) => g / Math.LN10)), name: "along GF" },
            ] },
        ],
        result: { start, smallest: least, opposite: opposite(start, n), stretch: Math.exp(total), bound: Math.exp(bound.at(-1)) },
        message: `Depth ${n}, from r₀ = ${L.number(start, 2)}: λmin is never below ${L.number(least)}, and errors grow ` +
          `by ${L.number(Math.exp(total))} at most, a power of 1/r₀. On the opposite ray λmin falls without end.`,
      };
    },
  }, settings);
};
