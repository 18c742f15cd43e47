/* The edge of stability in two variables: f(x, y) = ½ y x² − c y.
   Left: the plane (x, y). Right, on the same vertical axis: the sharpness y at each step. Below
   it, on the same time axis: the loss. One cursor goes through all three. */
window.gfgdEdge = (root, settings) => {
  "use strict";
  const L = window.gfgdScene;
  const STEPS = 600;
  const state = { ...settings };

  function run({ eta, c, x, ratio }) {
    let y = (ratio * 2) / eta;
    const points = [[x, y]];
    let lost = null;
    for (let k = 1; k <= STEPS; k++) {
      [x, y] = [(1 - eta * y) * x, y + eta * (c - (x * x) / 2)];
      if (!(Math.abs(x) < 1e3)) { lost = k; break; }
      points.push([x, y]);
    }
    return { points, lost };
  }
  const loss = ([x, y], c) => (y * x * x) / 2 - c * y;

  L.begin(root);
  const svg = L.svg(root, "svg", { role: "group", "aria-label":
    "The plane of x and y with the iterates of gradient descent; the sharpness and the loss at each step" });
  const defs = L.svg(svg, "defs");
  const clips = ["plane", "sharp", "loss"].map((n) =>
    L.svg(L.svg(defs, "clipPath", { id: `${root.id}-${n}` }), "rect"));
  const group = (i, name) => L.svg(svg, "g", { "clip-path": `url(#${root.id}-${name})` });
  const back = L.svg(svg, "g"); // shaded regions and axes
  const [plane, sharp, losses] = ["plane", "sharp", "loss"].map((n, i) => group(i, n));
  const mark = (g, cls) => L.svg(g, "path", { class: cls, fill: "none" });
  const m = {
    flow: mark(plane, "flow thick"), central: mark(plane, "prediction thick"),
    faintA: mark(plane, "descent faint"), faintB: mark(plane, "descent faint"),
    trailA: mark(plane, "descent"), trailB: mark(plane, "descent"),
    jump: mark(plane, "descent jump"), dots: mark(plane, "descent dots"),
    sFlow: mark(sharp, "flow thick"), sCentral: mark(sharp, "prediction thick"),
    sFaint: mark(sharp, "descent faint"), sGd: mark(sharp, "descent"),
    lFlow: mark(losses, "flow thick"), lFaint: mark(losses, "descent faint"),
    lGd: mark(losses, "descent"), lCentral: mark(losses, "prediction thick"),
  };
  const front = L.svg(svg, "g");
  const labels = L.svg(svg, "g");
  const cursor = L.svg(svg, "g", { class: "cursor" });
  const rule = L.svg(cursor, "line"), across = L.svg(cursor, "line"), now = L.svg(cursor, "circle", { r: 5 }),
    nowS = L.svg(cursor, "circle", { r: 4 }), nowL = L.svg(cursor, "circle", { r: 4 });
  const scrub = [0, 1].map(() => L.svg(svg, "rect", { class: "scrub" }));
  const handle = L.svg(svg, "g", { class: "handle", tabindex: 0, role: "slider",
    "aria-label": "Start; arrow keys move it, with shift ten times as far" });
  L.svg(handle, "circle", { r: 22, class: "reach" });
  L.svg(handle, "circle", { r: 8, class: "ring" });
  L.svg(handle, "circle", { r: 2.5, class: "dot" });

  const controls = L.html(root, "div", { class: "controls" });
  const etaControl = L.slider(controls, { label: "step size <i>η</i>", min: 0.06, max: 0.16, step: 0.005,
    value: state.eta, show: (v) => v.toFixed(3), input: (v) => { state.eta = v; update(); } });
  const cControl = L.slider(controls, { label: "pull <i>c</i>", min: 0.01, max: 0.1, step: 0.005,
    value: state.c, show: (v) => v.toFixed(3), input: (v) => { state.c = v; update(); } });
  const kControl = L.slider(controls, { label: "step <i>k</i>", min: 0, max: STEPS, step: 1,
    value: state.k, show: (v) => String(v), input: (v) => { state.k = v; play.stop(); show(); } });
  const buttons = L.html(controls, "div", { class: "buttons" });
  const playButton = L.html(buttons, "button", { type: "button" }, "Play");
  const reset = L.html(buttons, "button", { type: "button" }, "Reset");
  const message = L.html(root, "p", { class: "message", role: "status" });
  const say = L.announcer(message);
  let rest = 0;
  const play = L.player(playButton, (seconds) => {
    if (state.k >= STEPS) { state.k = 0; rest = 0; }
    rest += seconds * 60; // steps a second
    state.k = Math.min(STEPS, state.k + Math.floor(rest));
    rest %= 1;
    kControl.value = state.k;
    show();
    return state.k < STEPS;
  });

  let found, s; // the run, and the scales
  const X = 1.3, LOW = 0.95, HIGH = 1.05;

  function layout(width) {
    const wide = width >= 620, gap = wide ? 64 : 0;
    const left = wide ? 44 : 40, right = wide ? 96 : 12;
    const pw = wide ? Math.min(330, 0.42 * width) - left : width - left - right;
    const ph = wide ? 260 : 215;
    const box = { plane: [left, 28, pw, ph] };
    const sx = wide ? left + pw + gap : left, sw = width - sx - right;
    box.sharp = wide ? [sx, 28, sw, ph] : [left, 28 + ph + 58, pw, 118];
    const ly = box.sharp[1] + box.sharp[3] + (wide ? 60 : 36);
    box.loss = [sx, ly, sw, wide ? 118 : 74];
    const height = ly + box.loss[3] + 38;
    L.set(svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    ["plane", "sharp", "loss"].forEach((n, i) => {
      const [x, y, w, h] = box[n];
      L.set(clips[i], { x: x - 1, y, width: w + 2, height: h });
    });
    s = { wide, box, width, height };
    s.px = L.scale(-X, X, box.plane[0], box.plane[0] + pw);
    s.py = L.scale(LOW, HIGH, 28 + ph, 28);
    s.k = L.scale(0, STEPS, sx, sx + sw);
    s.sy = L.scale(LOW, HIGH, box.sharp[1] + box.sharp[3], box.sharp[1]);
    [["sharp", 0], ["loss", 1]].forEach(([n, i]) => {
      const [x, y, w, h] = box[n];
      L.set(scrub[i], { x, y, width: w, height: h });
    });
    controls.style.width = wide ? `${left + pw}px` : "";
    controls.style.marginTop = wide ? `${-(height - 28 - ph - 52)}px` : "";
    update();
  }

  function update() {
    if (!s) return;
    found = run(state);
    const { eta, c, ratio } = state, edge = 2 / eta, spread = Math.sqrt(2 * c);
    const values = found.points.map((p) => loss(p, c));
    const top = Math.min(Math.max(...values), 12 * c * edge), bottom = -c * edge * 1.35;
    const [lx, ly, lw, lh] = s.box.loss;
    s.ly = L.scale(bottom, top, ly + lh, ly);

    // The four regions of the cycle, and the lines between them.
    back.replaceChildren();
    const { px, py, k: kx, sy } = s;
    const rect = (x0, x1, y0, y1, cls) => L.svg(back, "rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: cls });
    rect(px.range[0], px.range[1], py.range[1], py(1), "unstable");
    rect(kx.range[0], kx.range[1], sy.range[1], sy(1), "unstable");
    const a = L.svg(back, "g"), b = L.svg(back, "g"), d = L.svg(back, "g");
    const yticks = (s.wide ? [0.96, 0.98, 1, 1.02, 1.04] : [0.96, 1, 1.04]).map((v) => [v, v.toFixed(2)]);
    L.axes(a, { xs: px, ys: py, xticks: [-1, -0.5, 0, 0.5, 1].map((v) => [v, L.number(v)]), yticks,
      title: "sharpness ÷ (2/η)", xlabel: "x, the direction that oscillates" });
    const steps = [0, 150, 300, 450, 600].map((v) => [v, String(v)]);
    L.axes(b, { xs: kx, ys: sy, xticks: s.wide ? steps : [], yticks: s.wide ? [] : yticks, title: s.wide ? "the same, step by step" : "sharpness ÷ (2/η), step by step" });
    const round = (v) => L.number(v, 2);
    L.axes(d, { xs: kx, ys: s.ly, xticks: steps, yticks: [0, 4 * c * edge, 8 * c * edge].filter((v) => v < top).map((v) => [v, round(v)]),
      title: "loss f", xlabel: "step k" });
    for (const sc of [[px, py], [kx, sy]])
      L.svg(back, "line", { x1: sc[0].range[0], x2: sc[0].range[1], y1: sc[1](1), y2: sc[1](1), class: "edge" });
    for (const sign of [-1, 1])
      L.svg(back, "line", { x1: px(sign * spread), x2: px(sign * spread), y1: py.range[0], y2: py.range[1], class: "null" });

    // Flow and central flow have closed forms on the valley floor.
    const y0 = ratio * edge, flow = (k) => ((y0 + c * eta * k) * eta) / 2;
    const central = (k) => Math.min(1, flow(k));
    const reach = Math.max(0, ((1 - ratio) * edge) / (c * eta)), reached = reach < STEPS;

    // Direct labels: the line's name in the line's colour.
    labels.replaceChildren();
    const text = (x, y, cls, t, anchor = "start") => L.svg(labels, "text", { x, y, class: `label ${cls}`, "text-anchor": anchor }, t);
    text(px.range[1] - 4, py.range[1] + 15, "note", "unstable: x grows", "end");
    text(px.range[1] - 4, py.range[0] - 7, "note", "stable: x shrinks", "end");
    if (spread < 0.75) text(px(spread) + 4, py(1) + 15, "note", "x = √2c");
    if (s.wide) {
      const end = kx.range[1] + 6;
      text(end, sy(central(STEPS)) + (reached ? 4 : -6), "prediction", "central flow");
      text(end, sy(1) + (reached ? 19 : 4), "note", `2/η = ${L.number(edge)}`);
      const leave = ((HIGH - ratio) * edge) / (c * eta);
      leave < STEPS ? text(kx(leave) + 6, sy.range[1] + 15, "flow", "gradient flow")
        : text(end, sy(flow(STEPS)) + (reached ? 4 : 10), "flow", "gradient flow");
      if (reached) {
        text(end, s.ly(0) - 3, "prediction", "predicted");
        text(end, s.ly(0) + 12, "prediction", "mean, 0");
      }
    } else {
      text(kx.range[1] - 2, sy(1) - 6, "prediction", "central flow", "end");
      text(kx.range[0] + 6, sy.range[1] + 13, "flow", "gradient flow");
    }
    // The first trough: there the line is alone.
    const low = found.points.findIndex((p, i, all) =>
      i > 20 && i < all.length - 2 && p[1] < edge && all[i - 1][1] >= p[1] && all[i + 1][1] > p[1]);
    if (low > 0) text(kx(Math.min(low, STEPS - 60)), Math.min(sy.range[0] - 4, sy((found.points[low][1] * eta) / 2) + 16), "descent", "gradient descent", "middle");

    const ks = Array.from({ length: STEPS / 5 + 1 }, (_, i) => 5 * i);
    L.set(m.flow, { d: L.line([[px(0), py(flow(0))], [px(0), py(flow(STEPS))]]) });
    L.set(m.central, { d: L.line([[px(0), py(central(0))], [px(0), py(central(STEPS))]]) });
    L.set(m.sFlow, { d: L.line(ks.map((k) => [kx(k), sy(flow(k))])) });
    L.set(m.sCentral, { d: L.line([0, Math.min(reach, STEPS), STEPS].map((k) => [kx(k), sy(central(k))])) });
    L.set(m.lFlow, { d: L.line(ks.map((k) => [kx(k), s.ly(-c * (y0 + c * eta * k))])) });
    L.set(m.lCentral, { d: reached ? L.line([[kx(reach), s.ly(0)], [kx(STEPS), s.ly(0)]]) : "" });
    s.plane = found.points.map(([x, y]) => [px(x), py((y * eta) / 2)]);
    s.sharp = found.points.map(([, y], k) => [kx(k), sy((y * eta) / 2)]);
    s.loss = values.map((v, k) => [kx(k), s.ly(v)]);
    L.set(m.faintA, { d: L.line(s.plane.filter((_, k) => k % 2 === 0)) });
    L.set(m.faintB, { d: L.line(s.plane.filter((_, k) => k % 2 === 1)) });
    L.set(m.sFaint, { d: L.line(s.sharp) });
    L.set(m.lFaint, { d: L.line(s.loss) });
    L.set(handle, { transform: `translate(${px(state.x)},${py(ratio)})`, "aria-valuenow": state.x.toFixed(2),
      "aria-valuemin": -1, "aria-valuemax": 1,
      "aria-valuetext": `x ${state.x.toFixed(2)}, sharpness ${ratio.toFixed(3)} times 2/η` });
    show();
  }

  function show() {
    const last = found.points.length - 1, k = Math.min(state.k, last);
    const upto = (parity) => s.plane.slice(0, k + 1).filter((_, i) => i % 2 === parity);
    L.set(m.trailA, { d: L.line(upto(0)) });
    L.set(m.trailB, { d: L.line(upto(1)) });
    L.set(m.jump, { d: L.line(s.plane.slice(Math.max(0, k - 1), k + 1)) });
    L.set(m.dots, { d: s.plane.slice(Math.max(0, k - 40), k + 1).map((p) => `M${p[0].toFixed(1)} ${p[1].toFixed(1)}h0`).join("") });
    L.set(m.sGd, { d: L.line(s.sharp.slice(0, k + 1)) });
    L.set(m.lGd, { d: L.line(s.loss.slice(0, k + 1)) });
    const inside = (p, [x, y, w, h]) => p[0] >= x - 1 && p[0] <= x + w + 1 && p[1] >= y && p[1] <= y + h;
    [[now, s.plane[k], s.box.plane], [nowS, s.sharp[k], s.box.sharp], [nowL, s.loss[k], s.box.loss]].forEach(([e, p, box]) =>
      L.set(e, { cx: p[0], cy: p[1], visibility: inside(p, box) ? "visible" : "hidden" }));
    L.set(rule, { x1: s.k(k), x2: s.k(k), y1: s.box.sharp[1], y2: s.box.loss[1] + s.box.loss[3] });
    const y = s.plane[k][1], seen = s.wide && inside(s.plane[k], s.box.plane);
    L.set(across, { x1: s.plane[k][0], x2: s.sharp[k][0], y1: y, y2: y, visibility: seen ? "visible" : "hidden" });

    const part = found.points.slice(0, k), { eta, c } = state;
    const mean = (f) => part.reduce((sum, p) => sum + f(p), 0) / part.length;
    root.dataset.result = JSON.stringify({ ...state, k, end: found.points[k], loss: loss(found.points[k], c),
      mean_x2: mean((p) => p[0] ** 2), lost: found.lost });
    say((found.lost && state.k >= found.lost
      ? `After ${found.lost} steps gradient descent is lost: the cycles have grown too large.`
      : k ? `Over the first ${k} steps the mean of x² is ${L.number(mean((p) => p[0] ** 2) / (2 * c))} times 2c, the mean sharpness ${L.number(mean((p) => p[1]) * eta / 2, 4)} times 2/η.`
        : "Drag the start, or press Play."));
  }

  const clamp = (v, a, b) => Math.min(b, Math.max(a, v));
  const moveTo = (x, ratio) => {
    state.x = clamp(Math.round(x * 100) / 100, -1, 1);
    state.ratio = clamp(Math.round(ratio * 1000) / 1000, 0.955, 1.045);
    update();
  };
  L.drag(handle, svg, ([x, y]) => moveTo(s.px.invert(x), s.py.invert(y)));
  for (const area of scrub)
    L.drag(area, svg, ([x]) => {
      play.stop();
      state.k = clamp(Math.round(s.k.invert(x)), 0, STEPS);
      kControl.value = state.k;
      show();
    }, "x");
  handle.addEventListener("keydown", (e) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[e.key];
    if (!by) return;
    e.preventDefault();
    const far = e.shiftKey ? 10 : 1;
    moveTo(state.x + 0.02 * far * by[0], state.ratio + 0.001 * far * by[1]);
  });
  reset.addEventListener("click", () => {
    play.stop();
    Object.assign(state, settings);
    etaControl.value = state.eta; cControl.value = state.c; kControl.value = state.k;
    update();
  });
  L.onWidth(root, layout);
};
