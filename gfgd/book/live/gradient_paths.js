/* The live picture: gradient descent (GD) and gradient flow (GF) from a start that the reader
   drags. Emitted into a page by gfgd/book/live.py; needs nothing else, and asks no other host.

   `settings` = {landscapes: {name: {title, domain: [[x0, x1], [y0, y1]]}}, landscape, start,
   step_size, horizon}. The full-precision results stand in the root's data-result attribute. */
(() => {
  "use strict";

  // Values and gradients: those of gfgd.problems.landscapes; tests/test_live_picture.py compares them.
  const ripple = (a, w) => ({
    value: (x, y) => (x * x + y * y) / 2 + (a / (w * w)) * (2 - Math.cos(w * x) - Math.cos(w * y)),
    gradient: (x, y) => [x + (a / w) * Math.sin(w * x), y + (a / w) * Math.sin(w * y)],
  });
  const quadratic = (a, b) => ({
    value: (x, y) => (a * x * x + b * y * y) / 2,
    gradient: (x, y) => [a * x, b * y],
  });
  const FUNCTIONS = {
    bowl: quadratic(1, 4),
    saddle: quadratic(1, -1),
    ripples: ripple(0.8, 3),
    steep_ripples: ripple(3, 3),
    quartic: {
      value: (x, y) => (x ** 4 + y ** 4) / 4,
      gradient: (x, y) => [x ** 3, y ** 3],
    },
    bent_saddle: {
      value: (x, y) => (x * x) / 2 + Math.cos(y) + 1,
      gradient: (x, y) => [x, -Math.sin(y)],
    },
    valley: {
      value: (x, y) => (x - 1) ** 2 / 2 + 2 * (y - x * x) ** 2,
      gradient: (x, y) => [x - 1 - 8 * x * (y - x * x), 4 * (y - x * x)],
    },
    two_layer_net: {
      value: (x, y) => (x * y - 1) ** 2 / 2,
      gradient: (x, y) => [(x * y - 1) * y, (x * y - 1) * x],
    },
  };

  const STEP_SIZES = [
    0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7,
    0.8, 0.9, 1, 1.25, 1.5, 2,
  ];
  const SIZE = 400; // of the drawing, in its own units

  function descent(f, start, stepSize, iterations) {
    const points = [start];
    let [x, y] = start;
    for (let k = 1; k <= iterations; k++) {
      const [gx, gy] = f.gradient(x, y);
      [x, y] = [x - stepSize * gx, y - stepSize * gy];
      if (!Number.isFinite(f.value(x, y))) return { points, diverged: k };
      points.push([x, y]);
    }
    return { points, diverged: null };
  }

  // Dormand and Prince's pair of order 5(4) (Hairer, Nørsett and Wanner 1993, table II.5.2).
  const STAGES = [
    [],
    [1 / 5],
    [3 / 40, 9 / 40],
    [44 / 45, -56 / 15, 32 / 9],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
  ];
  const ERROR = [
    71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40,
  ];
  const TOLERANCE = 1e-9;

  const combined = (point, step, weights, slopes) =>
    [0, 1].map((i) => point[i] + step * weights.reduce((sum, w, j) => sum + w * slopes[j][i], 0));

  function flow(f, start, horizon) {
    const points = [start];
    let [point, time, step] = [start, 0, 1e-3];
    for (let tries = 0; time < horizon && tries < 20000; tries++) {
      const last = time + step >= horizon;
      const length = last ? horizon - time : step;
      const slopes = [];
      let end = point;
      for (const weights of STAGES) {
        end = combined(point, length, weights, slopes);
        slopes.push(f.gradient(...end).map((g) => -g));
      }
      const error = combined([0, 0], length, ERROR, slopes);
      const scaled = Math.hypot(
        ...error.map((e, i) => e / (TOLERANCE * (1 + Math.abs(end[i])))),
      );
      if (scaled <= 1) {
        [point, time] = [end, last ? horizon : time + length];
        points.push(point);
      }
      const factor = Number.isFinite(scaled) ? 0.9 * Math.max(scaled, 1e-10) ** -0.2 : 0.1;
      // Short steps even where the flow is smooth, so that the curve is drawn smooth.
      step = Math.min(length * Math.min(5, Math.max(0.1, factor)), horizon / 100);
    }
    return { points, reached: time >= horizon };
  }

  // Marching squares: the level set as line segments of an SVG path.
  function contour(values, count, level) {
    const cell = SIZE / (count - 1);
    let path = "";
    for (let i = 0; i < count - 1; i++) {
      for (let j = 0; j < count - 1; j++) {
        const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
        const crossings = [];
        corners.forEach(([a, b], n) => {
          const [c, d] = corners[(n + 1) % 4];
          const [from, to] = [values[a][b] - level, values[c][d] - level];
          if (from < 0 === to < 0) return;
          const part = from / (from - to);
          crossings.push([cell * (a + part * (c - a)), SIZE - cell * (b + part * (d - b))]);
        });
        for (let n = 0; n + 1 < crossings.length; n += 2) {
          const ends = [crossings[n], crossings[n + 1]].map((p) => p.map((v) => v.toFixed(1)));
          path += `M${ends[0]}L${ends[1]}`;
        }
      }
    }
    return path;
  }

  function contours(f, [[x0, x1], [y0, y1]]) {
    const count = 61;
    const along = (low, high, i) => low + ((high - low) * i) / (count - 1);
    const values = Array.from({ length: count }, (_, i) =>
      Array.from({ length: count }, (_, j) => f.value(along(x0, x1, i), along(y0, y1, j))),
    );
    const sorted = values.flat().sort((a, b) => a - b);
    // Levels that enclose 1/14, 2/14, … of the drawing: as many lines near a minimum as far away.
    const levels = Array.from({ length: 13 }, (_, n) => {
      return sorted[Math.round(((n + 1) * (sorted.length - 1)) / 14)];
    });
    return levels.map((level) => contour(values, count, level)).join("");
  }

  const STYLE = `
    .gfgd-live { --flow: var(--gfgd-flow, #0069a8); --descent: var(--gfgd-descent, #bf4a00);
      --ink: var(--gfgd-ink, #1f2328); --muted: var(--gfgd-muted, #59636e);
      --contour: var(--gfgd-contour, #a8b4c0); --paper: var(--gfgd-paper, #fff);
      background: var(--paper); color: var(--ink); box-sizing: border-box; display: grid;
      gap: 0.4rem 1.4rem; align-items: start; }
    @container gfgd-live (width > 40rem) { .gfgd-live { grid-template-columns: 25rem 1fr; } }
    .gfgd-live svg { display: block; width: 100%; max-width: 25rem; height: auto;
      user-select: none; }
    .gfgd-live label { display: flex; flex-wrap: wrap; gap: 0.2em 0.6em; align-items: center;
      margin: 0.3em 0; }
    .gfgd-live label > span { flex: 0 0 6em; }
    .gfgd-live select, .gfgd-live input { flex: 1 1 4em; min-width: 0; min-height: 1.9em;
      font: inherit; color: inherit; background: var(--paper); }
    .gfgd-live select, .gfgd-live input[type="number"] { border: 1px solid var(--muted);
      border-radius: 3px; padding: 0 0.3em; }
    .gfgd-live output { flex: 0 0 3em; text-align: right; }
    .gfgd-live table { border-collapse: collapse; margin: 0.5em 0; width: 100%; }
    .gfgd-live th, .gfgd-live td { text-align: left; padding: 0.1em 0.5em 0.1em 0;
      color: inherit; font-variant-numeric: tabular-nums; background: none; border: 0; }
    .gfgd-live .handle { cursor: grab; outline: none; }
    .gfgd-live .handle:focus-visible .ring { stroke: var(--ink); stroke-width: 4; }
    .gfgd-live p { margin: 0.4em 0 0; }`;

  const ticks = (low, high) =>
    Array.from({ length: Math.floor(high) - Math.ceil(low) + 1 }, (_, i) => Math.ceil(low) + i);

  const markup = (id, settings) => `<style>${STYLE}</style>
    <svg viewBox="-24 -6 ${SIZE + 32} ${SIZE + 28}" role="group"
      aria-label="Contours of the landscape with the paths of gradient descent and gradient flow">
      <clipPath id="${id}-clip"><rect width="${SIZE}" height="${SIZE}"/></clipPath>
      <rect width="${SIZE}" height="${SIZE}" fill="var(--paper)" stroke="var(--contour)"/>
      <g class="ticks" font-size="12" fill="var(--muted)"></g>
      <g clip-path="url(#${id}-clip)" fill="none">
        <path class="contours" stroke="var(--contour)" stroke-width="0.8"/>
        <polyline class="gf" stroke="var(--flow)" stroke-width="3.5"/>
        <polyline class="gd" stroke="var(--descent)" stroke-width="1.8"/>
        <path class="iterates" stroke="var(--descent)" stroke-width="7" stroke-linecap="round"/>
      </g>
      <g class="handle" tabindex="0" role="slider" aria-label="Start: arrow keys move it, with
        shift ten times as far" aria-valuemin="0" aria-valuemax="1" aria-valuenow="0">
        <circle r="24" fill="transparent"/>
        <circle class="ring" r="9" fill="var(--paper)" stroke="var(--ink)" stroke-width="2"/>
        <circle r="3" fill="var(--ink)"/>
      </g>
    </svg>
    <div><p aria-hidden="true"><b style="color: var(--flow)">━━ gradient flow</b>
      <b style="color: var(--descent)">─●─ gradient descent</b> <span style="white-space: nowrap">◉ start: drag it</span></p>
    <label><span>Landscape</span><select class="landscape">${Object.entries(settings.landscapes)
      .map(([name, { title }]) => `<option value="${name}">${title}</option>`)
      .join("")}</select></label>
    <label><span>Step size η</span><input class="step-size" type="range" min="0"
      max="${STEP_SIZES.length - 1}" step="1"><output></output></label>
    <label><span>Time T</span><input class="horizon" type="range" min="0.5" max="10"
      step="0.5"><output></output></label>
    <label><span>Start, x</span><input class="x" type="number" step="0.05"></label>
    <label><span>Start, y</span><input class="y" type="number" step="0.05"></label>
    <table><thead><tr><td></td><th scope="col">end</th><th scope="col">f</th></tr></thead>
      <tbody><tr><th scope="row">GD</th><td class="gd-end"></td><td class="gd-loss"></td></tr>
      <tr><th scope="row">GF</th><td class="gf-end"></td><td class="gf-loss"></td></tr></tbody>
    </table>
    <p class="message" role="status"></p></div>`;

  const signed = (text) => String(text).replace("-", "−");
  const short = (v) => signed(Math.abs(v) < 1e5 ? v.toFixed(4) : v.toExponential(2));
  const round = (v) => Math.round(v * 100) / 100;

  window.gfgdGradientPaths = (root, settings) => {
    root.innerHTML = markup(root.id, settings);
    const part = (selector) => root.querySelector(selector);
    const svg = part("svg");
    const handle = part(".handle");
    const nearest = STEP_SIZES.reduce((best, size) =>
      Math.abs(size - settings.step_size) < Math.abs(best - settings.step_size) ? size : best,
    );
    const horizon = Math.min(10, Math.max(0.5, Math.round(2 * settings.horizon) / 2));
    const state = { ...settings, horizon, step_size: nearest, start: [...settings.start] };
    let announcement;

    const domain = () => settings.landscapes[state.landscape].domain;
    const toDrawing = ([x, y]) => {
      const [[x0, x1], [y0, y1]] = domain();
      return [(SIZE * (x - x0)) / (x1 - x0), SIZE - (SIZE * (y - y0)) / (y1 - y0)];
    };
    const clamped = (point) =>
      point.map((v, i) => Math.min(domain()[i][1], Math.max(domain()[i][0], v))).map(round);

    // A path that leaves for far away is cut there: SVG cannot draw 1e30.
    function drawn(points) {
      const kept = [];
      for (const point of points.map(toDrawing)) {
        const far = Math.hypot(...point) / (20 * SIZE);
        const before = kept.at(-1);
        if (far <= 1) kept.push(point);
        else {
          const length = Math.hypot(point[0] - before[0], point[1] - before[1]);
          const cut = Math.min(1, (20 * SIZE) / length);
          kept.push(before.map((v, i) => v + cut * (point[i] - v)));
          break;
        }
      }
      return kept.map((p) => p.map((v) => v.toFixed(2)));
    }

    function drawLandscape() {
      const [xs, ys] = domain();
      part(".contours").setAttribute("d", contours(FUNCTIONS[state.landscape], [xs, ys]));
      part(".ticks").innerHTML =
        ticks(...xs).map((v) => {
          const [at] = toDrawing([v, ys[0]]);
          return `<text x="${at}" y="${SIZE + 15}" text-anchor="middle">${signed(v)}</text>`;
        }).join("") +
        ticks(...ys).map((v) => {
          const at = toDrawing([xs[0], v])[1] + 4;
          return `<text x="-6" y="${at}" text-anchor="end">${signed(v)}</text>`;
        }).join("");
      for (const [i, name] of ["x", "y"].entries()) {
        part(`.${name}`).min = Math.ceil(domain()[i][0] * 100) / 100;
        part(`.${name}`).max = Math.floor(domain()[i][1] * 100) / 100;
      }
    }

    function update() {
      const f = FUNCTIONS[state.landscape];
      const iterations = Math.max(1, Math.floor(state.horizon / state.step_size + 1e-9));
      const gd = descent(f, state.start, state.step_size, iterations);
      const time = iterations * state.step_size;
      const gf = flow(f, state.start, time);
      const [gdEnd, gfEnd] = [gd.points.at(-1), gf.points.at(-1)];
      const distance = Math.hypot(gdEnd[0] - gfEnd[0], gdEnd[1] - gfEnd[1]);

      const gdPath = drawn(gd.points);
      part(".gf").setAttribute("points", drawn(gf.points).join(" "));
      part(".gd").setAttribute("points", gdPath.join(" "));
      part(".iterates").setAttribute("d", gdPath.map((p) => `M${p}h0`).join(""));
      handle.setAttribute("transform", `translate(${toDrawing(state.start)})`);
      const [x, y] = state.start;
      handle.setAttribute("aria-valuemin", domain()[0][0]);
      handle.setAttribute("aria-valuemax", domain()[0][1]);
      handle.setAttribute("aria-valuenow", x);
      handle.setAttribute("aria-valuetext", `x = ${x}, y = ${y}`);

      part(".landscape").value = state.landscape;
      part(".step-size").value = STEP_SIZES.indexOf(state.step_size);
      part(".step-size").setAttribute("aria-valuetext", state.step_size);
      part(".step-size + output").value = state.step_size;
      part(".horizon").value = state.horizon;
      part(".horizon + output").value = state.horizon;
      if (document.activeElement !== part(".x")) part(".x").value = x;
      if (document.activeElement !== part(".y")) part(".y").value = y;

      for (const [name, end] of [["gd", gdEnd], ["gf", gfEnd]]) {
        part(`.${name}-end`).textContent = `(${end.map(short).join(", ")})`;
        part(`.${name}-loss`).textContent = short(f.value(...end));
      }
      root.dataset.result = JSON.stringify({
        landscape: state.landscape, start: state.start, step_size: state.step_size, iterations,
        time, gd: gdEnd, gf: gfEnd, gd_loss: f.value(...gdEnd), gf_loss: f.value(...gfEnd),
        diverged: gd.diverged, reached: gf.reached,
      });
      const message = gd.diverged
        ? `GD diverges: its loss is not finite after ${gd.diverged} steps of η = ${state.step_size}.`
        : `After ${iterations} steps of η = ${state.step_size}, at time ${Number(time.toPrecision(6))}, ` +
          `GD and GF are ${short(distance)} apart.`;
      // A screen reader hears the result once, not at every pixel of a drag.
      clearTimeout(announcement);
      announcement = setTimeout(() => (part(".message").textContent = message), 250);
    }

    const move = (point) => {
      state.start = clamped(point);
      update();
    };
    const pointed = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(
        svg.getScreenCTM().inverse(),
      );
      const [[x0, x1], [y0, y1]] = domain();
      move([x0 + ((x1 - x0) * at.x) / SIZE, y0 + ((y1 - y0) * (SIZE - at.y)) / SIZE]);
    };

    // A touch on the ring drags it. `touch-action` has no effect on an SVG's children.
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      event.preventDefault();
    });
    handle.addEventListener("pointermove", (event) => {
      if (handle.hasPointerCapture(event.pointerId)) pointed(event);
    });
    svg.addEventListener("click", (event) => {
      if (!handle.contains(event.target)) pointed(event);
    });
    handle.addEventListener("keydown", (event) => {
      const directions = {
        ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1],
      };
      const direction = directions[event.key];
      if (!direction) return;
      event.preventDefault();
      const length = event.shiftKey ? 0.5 : 0.05;
      move(state.start.map((v, i) => v + length * direction[i]));
    });
    for (const [i, name] of ["x", "y"].entries()) {
      part(`.${name}`).addEventListener("input", (event) => {
        const typed = event.target.valueAsNumber;
        if (Number.isFinite(typed)) move(state.start.map((v, j) => (i === j ? typed : v)));
      });
      part(`.${name}`).addEventListener("change", () => (part(`.${name}`).value = state.start[i]));
    }
    part(".landscape").addEventListener("change", (event) => {
      state.landscape = event.target.value;
      drawLandscape();
      move(state.start);
    });
    part(".step-size").addEventListener("input", (event) => {
      state.step_size = STEP_SIZES[event.target.value];
      update();
    });
    part(".horizon").addEventListener("input", (event) => {
      state.horizon = event.target.valueAsNumber;
      update();
    });
    drawLandscape();
    move(state.start);
  };
})();
