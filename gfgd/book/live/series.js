/* What one step multiplies by on ½λθ²: GD by 1 − x, x = ηλ; the modified flow of order n by exp of the
   first n terms of log(1 − x). */
window.gfgdSeries = (root, settings) => {
  "use strict";
  const L = window.gfgdScene;
  const END = 2.4, POINTS = 240;
  const flow = (x, order) => {
    let sum = 0;
    for (let j = 1; j <= order; j++) sum += x ** j / j;
    return Math.exp(-sum);
  };

  window.gfgdCurves(root, {
    label: "The factor of one step of gradient descent and of modified flows against eta times lambda",
    panels: 1,
    sliders: [
      { key: "order", label: "order <i>n</i>", min: 1, max: 20, step: 1, show: String },
      { key: "x", label: "<i>ηλ</i>", min: 0, max: END, step: 0.05, show: (v) => v.toFixed(2) },
    ],
    compute({ order, x }) {
      const places = Array.from({ length: POINTS + 1 }, (_, i) => (END * i) / POINTS);
      const modified = flow(x, order), descent = 1 - x, dot = (v) => [[x, v], [x, v]];
      return {
        panels: [
          { title: "factor of one step", xlabel: "ηλ", x: [0, END], y: [-1.4, 1], levels: [{ y: 0, name: "0" }],
            xticks: [0, 0.5, 1, 1.5, 2].map((v) => [v, L.number(v)]), yticks: [-1, 0, 1].map((v) => [v, L.number(v)]),
            lines: [
              { cls: "flow", points: places.map((p) => [p, flow(p, 1)]), name: order > 1 ? "GF" : "" },
              { cls: "prediction thick", points: places.map((p) => [p, flow(p, order)]), name: `order ${order}` },
              { cls: "descent", points: [[0, 1], [END, 1 - END]], name: "GD" },
              { cls: "prediction dots", points: dot(modified) },
              { cls: "descent dots", points: dot(descent) },
            ] },
        ],
        result: { modified, descent },
        message: `At ηλ = ${L.number(x)} a step of GD multiplies by ${L.number(descent)}, the flow of order ${order} by ` +
          `${L.number(modified)}. ` + (x < 1 ? "A higher order comes nearer."
            : x > 1 ? "GD changes sign, and no order does: a higher one only shrinks." : "GD is at rest after one step."),
      };
    },
  }, settings);
};
