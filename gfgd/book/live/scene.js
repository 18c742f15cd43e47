/* What the live scenes share. Emitted into a page by gfgd/book/live.py; needs nothing else, and asks
   no other host. The drawing is laid out in CSS pixels and never scaled, so that 13 pixels of text are
   13 on a phone. Every colour is a CSS variable, so that the theme's switch needs no redraw. Marks are
   made once and then only moved, so that a drag survives a redraw. A touch on a handle drags it, a
   touch anywhere else scrolls the page. */
(() => {
  "use strict";
  if (window.gfgdScene) return; // another picture on the page has brought it
  const NS = "http://www.w3.org/2000/svg";
  const set = (e, attrs) => {
    for (const [k, v] of Object.entries(attrs)) v === null ? e.removeAttribute(k) : e.setAttribute(k, v);
    return e;
  };
  const svg = (parent, name, attrs = {}, text) => {
    const e = set(document.createElementNS(NS, name), attrs);
    if (text != null) e.textContent = text;
    parent?.append(e);
    return e;
  };
  const html = (parent, name, attrs = {}, text) => {
    const e = set(document.createElement(name), attrs);
    if (text != null) e.textContent = text;
    parent?.append(e);
    return e;
  };
  const scale = (d0, d1, r0, r1) => {
    const f = (v) => r0 + ((v - d0) / (d1 - d0)) * (r1 - r0);
    f.invert = (p) => d0 + ((p - r0) / (r1 - r0)) * (d1 - d0);
    return Object.assign(f, { domain: [d0, d1], range: [r0, r1] });
  };
  const line = (points) =>
    points.length ? "M" + points.map((p) => `${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("L") : "";
  const SUPERSCRIPTS = { "-": "⁻", "+": "", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
  const power = (n) => `10${[...String(n)].map((sign) => SUPERSCRIPTS[sign]).join("")}`;
  const number = (v, digits = 3) => {
    const short = v === 0 || (Math.abs(v) < 1e5 && Math.abs(v) >= 1e-3);
    const [mantissa, exponent] = v.toExponential(digits - 1).split("e");
    const fixed = String(Number(v.toPrecision(digits))).replace(/^-?\d{4,}/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, "\u202f"));
    const text = short ? fixed : `${mantissa} × ${power(exponent)}`;
    return Number.isFinite(v) ? text.replace("-", "−") : String(v);
  };

  /* Axes without a box: ticks as short text, gridless; a title above the axis, horizontal. */
  function axes(g, { xs, ys, xticks = [], yticks = [], title, xlabel }) {
    g.replaceChildren();
    const [x0, x1] = xs.range, [y0] = ys.range;
    svg(g, "line", { x1: x0, x2: x1, y1: y0, y2: y0, class: "axis" });
    for (const [v, t] of xticks) {
      svg(g, "line", { x1: xs(v), x2: xs(v), y1: y0, y2: y0 + 4, class: "axis" });
      svg(g, "text", { x: xs(v), y: y0 + 17, class: "tick", "text-anchor": "middle" }, t);
    }
    for (const [v, t] of yticks)
      svg(g, "text", { x: x0 - 6, y: ys(v) + 4, class: "tick", "text-anchor": "end" }, t);
    if (title) svg(g, "text", { x: x0, y: ys.range[1] - 8, class: "title" }, title);
    if (xlabel) svg(g, "text", { x: x1, y: y0 + 32, class: "tick", "text-anchor": "end" }, xlabel);
  }

  /* Drag: `axis` "both" takes the touch from the page (a handle), "x" leaves it vertical scrolling
     (touch-action: pan-y on the outer <svg>). Browsers ignore touch-action on an SVG's children such
     as <g>: a handle must call preventDefault in touchstart. */
  function drag(target, surface, move, axis = "both") {
    if (axis === "both")
      target.addEventListener("touchstart", (e) => e.preventDefault(), { passive: false });
    const at = (e) => {
      const box = surface.getBoundingClientRect();
      move([e.clientX - box.left, e.clientY - box.top], e);
    };
    target.addEventListener("pointerdown", (e) => {
      if (e.button) return;
      target.setPointerCapture(e.pointerId);
      target.focus?.({ preventScroll: true });
      if (e.pointerType === "mouse") e.preventDefault();
      if (axis === "x") at(e);
    });
    target.addEventListener("pointermove", (e) => target.hasPointerCapture(e.pointerId) && at(e));
  }

  /* A labelled range input; `read` turns its position into the value, `write` shows it. */
  function slider(parent, { label, min, max, step, value, show = number, input }) {
    const row = html(parent, "label", { class: "slider" });
    html(row, "span", {}).innerHTML = label;
    const control = html(row, "input", { type: "range", min, max, step, value });
    const out = html(row, "output");
    const api = {
      control,
      get value() { return control.valueAsNumber; },
      set value(v) { control.value = v; api.label(); },
      label() { out.value = show(api.value); control.setAttribute("aria-valuetext", show(api.value)); },
    };
    control.addEventListener("input", () => { api.label(); input(api.value); });
    api.label();
    return api;
  }

  /* Lay out anew when the width changes; say the result once, not at every pixel of a drag. */
  const onWidth = (root, layout) => {
    let last = 0;
    new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width && width !== last) layout((last = width));
    }).observe(root);
  };
  const announcer = (node) => {
    let timer;
    return (text) => { clearTimeout(timer); timer = setTimeout(() => (node.textContent = text), 300); };
  };
  /* Play: `tick` gets the seconds since the last frame and returns false at the end. */
  function player(button, tick) {
    let frame = 0, last = 0;
    const stop = () => { cancelAnimationFrame(frame); frame = 0; button.textContent = "Play"; };
    const run = (now) => {
      const go = tick(Math.min(0.1, (now - last) / 1000));
      last = now;
      go ? (frame = requestAnimationFrame(run)) : stop();
    };
    button.addEventListener("click", () => {
      if (frame) return stop();
      button.textContent = "Pause";
      last = performance.now();
      frame = requestAnimationFrame(run);
    });
    return { stop, get playing() { return frame !== 0; } };
  }
  const STYLE = `
    .gfgd-scene { --paper: var(--gfgd-paper, #fff); --ink: var(--gfgd-ink, #1f2328);
          --muted: var(--gfgd-muted, #59636e); --hair: var(--gfgd-hair, #d5dbe1);
          --wash: var(--gfgd-wash, #f4eef3); --flow: var(--gfgd-flow, #0069a8);
          --descent: var(--gfgd-descent, #bf4a00); --prediction: var(--gfgd-prediction, #007a58);
          --bound: var(--gfgd-bound, #8a2f7b);
          background: var(--paper); color: var(--ink); container-type: inline-size; margin: 1.2rem 0 0.4rem; position: relative; }
    /* On the outer <svg>: browsers ignore touch-action on its children. */
    .gfgd-scene svg { touch-action: pan-y pinch-zoom; display: block; overflow: visible; user-select: none; -webkit-user-select: none; }
    .gfgd-scene text { font: 13px/1 system-ui, sans-serif; fill: var(--ink); }
    .gfgd-scene text.tick, .gfgd-scene text.note { fill: var(--muted); font-size: 12px; }
    .gfgd-scene text.title { font-weight: 600; }
    .gfgd-scene text.label { font-weight: 600; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
    .gfgd-scene text.note { font-weight: 400; }
    .gfgd-scene text.descent { fill: var(--descent); } .gfgd-scene text.flow { fill: var(--flow); } .gfgd-scene text.prediction { fill: var(--prediction); } .gfgd-scene text.bound { fill: var(--bound); }
    .gfgd-scene .axis { stroke: var(--muted); } .gfgd-scene .edge { stroke: var(--ink); stroke-width: 1; }
    .gfgd-scene .null { stroke: var(--muted); stroke-dasharray: 2 4; }
    .gfgd-scene .unstable { fill: var(--wash); }
    .gfgd-scene path.descent { stroke: var(--descent); stroke-width: 1.8; stroke-linejoin: round; }
    .gfgd-scene path.flow { stroke: var(--flow); } .gfgd-scene path.prediction { stroke: var(--prediction); }
    .gfgd-scene path.bound { stroke: var(--bound); stroke-width: 2; } .gfgd-scene path.threshold { stroke: var(--ink); stroke-width: 1; }
    .gfgd-scene path.area { stroke: none; fill-opacity: 0.18; } .gfgd-scene path.area.bound { fill: var(--bound); }
    .gfgd-scene path.thick { stroke-width: 3; stroke-linecap: round; }
    .gfgd-scene path.faint { opacity: 0.3; stroke-width: 1.1; }
    .gfgd-scene path.jump { stroke-width: 1; stroke-dasharray: 3 3; }
    .gfgd-scene path.dots { stroke-width: 5; stroke-linecap: round; }
    .gfgd-scene .cursor line { stroke: var(--ink); stroke-width: 1; opacity: 0.35; }
    .gfgd-scene .cursor circle { fill: var(--descent); stroke: var(--paper); stroke-width: 1.5; }
    .gfgd-scene .scrub { fill: transparent; cursor: ew-resize; }
    .gfgd-scene .cursor, .gfgd-scene path { pointer-events: none; }
    .gfgd-scene .handle { cursor: grab; outline: none; }
    .gfgd-scene .handle .reach { fill: transparent; }
    .gfgd-scene .handle .ring { fill: var(--paper); stroke: var(--ink); stroke-width: 2; }
    .gfgd-scene .handle .dot { fill: var(--ink); }
    .gfgd-scene .handle:focus-visible .ring { stroke-width: 4; }
    .gfgd-scene .controls { display: grid; gap: 0 0.8rem; max-width: 30rem; position: relative; }
    .gfgd-scene .slider { display: grid; grid-template-columns: 6.2em 1fr 3.2em; align-items: center; gap: 0.5em; min-height: 40px; font-size: 0.9rem; }
    .gfgd-scene .slider input { width: 100%; min-width: 0; min-height: 40px; margin: 0; accent-color: var(--descent); touch-action: pan-y; }
    .gfgd-scene .slider output { text-align: right; font-variant-numeric: tabular-nums; }
    .gfgd-scene .switch { display: flex; align-items: center; gap: 0.6em; min-height: 40px; font-size: 0.9rem; }
    .gfgd-scene .switch input { width: 1.4em; height: 1.4em; accent-color: var(--bound); margin: 0; }
    .gfgd-scene .buttons { display: flex; gap: 0.6rem; }
    .gfgd-scene button { font: inherit; font-size: 0.9rem; min-width: 5.5em; min-height: 40px; border: 1px solid var(--hair); border-radius: 6px; background: var(--paper); color: var(--ink); }
    .gfgd-scene .message { min-height: 2.8em; margin: 0.5rem 0 0; font-size: 0.9rem; color: var(--muted); font-variant-numeric: tabular-nums; }
    .gfgd-scene button:focus-visible, .gfgd-scene input:focus-visible { outline: 2px solid var(--ink); outline-offset: 2px; }
    /* A sheet is narrower than the screen that the picture was laid out for. */
    @media print { .gfgd-scene svg { height: auto; width: 100%; }
                   .gfgd-scene .controls, .gfgd-scene .message { display: none; } }`;

  /* Make an element a scene: empty, and in the book's colours. */
  function begin(root) {
    root.textContent = "";
    root.classList.add("gfgd-scene");
    html(root, "style", {}, STYLE);
  }

  window.gfgdScene = {
    begin, set, svg, html, scale, line, number, power, axes, drag, slider, onWidth, announcer, player,
  };
})();
