/* Forty equal steps on the weight 1.3 · 2^e: exact, in float32, and in float32 with the rest carried on. */
window.gfgdSteps = (root, settings) => {
  "use strict";
  const L = window.gfgdScene;
  const STEPS = 40, MANTISSA = 1.3, round = Math.fround;

  function computed({ part, power }) {
    const weight = round(MANTISSA * 2 ** power), spacing = 2 ** (power - 23), step = round(part * spacing);
    const single = [weight], exact = [weight], carried = [weight];
    let carry = 0;
    for (let k = 0; k < STEPS; k++) {
      exact.push(exact[k] + step);
      single.push(round(single[k] + step));
      const wanted = round(carry + step), next = round(carried[k] + wanted);
      carry = round(wanted - round(next - carried[k])); // exact here: |wanted| < |weight|
      carried.push(next);
    }
    return { weight, spacing, step, single, exact, carried };
  }

  window.gfgdCurves(root, {
    label: "Forty equal steps on one weight, exact, in float32 and in float32 with a carry",
    panels: 1,
    sliders: [
      { key: "part", label: "step ÷ <i>ω</i>", min: 0, max: 2, step: 0.05, show: (v) => v.toFixed(2) },
      { key: "power", label: "exponent <i>e</i>", min: -6, max: 4, step: 1, show: String },
    ],
    compute(state) {
      const found = computed(state), scaled = (values) => values.map((v, k) => [k, (v - found.weight) / found.spacing]);
      const moved = (values) => (values.at(-1) - found.weight) / found.spacing;
      const top = Math.max(20, STEPS * state.part);
      return {
        panels: [
          { title: "way in units of the spacing ω", xlabel: "step k", x: [0, STEPS], y: [0, top],
            xticks: [0, 10, 20, 30, 40].map((v) => [v, String(v)]),
            yticks: [0, top / 2, top].map((v) => [v, L.number(v, 2)]),
            lines: [
              { cls: "flow thick", points: scaled(found.exact), name: "exact" },
              { cls: "prediction", points: scaled(found.carried), name: "with carry" },
              { cls: "descent", points: scaled(found.single), name: "float32" },
            ] },
        ],
        result: { weight: found.weight, spacing: found.spacing, step: found.step,
          end: found.single.at(-1), exact: found.exact.at(-1), carried: found.carried.at(-1) },
        message: `The weight is ${L.number(found.weight)}, its spacing ω = ${L.number(found.spacing)}. Steps of ${L.number(state.part)} ω: after ${STEPS} of them the exact way is ` +
          `${L.number(moved(found.exact))} ω, that in float32 ${L.number(moved(found.single))} ω` +
          (found.step && found.single.at(-1) === found.weight ? ": every step is lost." : "."),
      };
    },
  }, settings);
};
