/* Curves that follow sliders, switches and handles. A model says what there is, and draws it:
     { label, panels: number, sliders, switches, handles, compute(state) }.
   A slider is { key, label, min, max, step, show }, a switch { key, label }, a handle, dragged up
   and down, { key, panel, x(state), min, max, step, name }. `compute` returns
     { panels, result, message }, a panel being
     { title, xlabel, x: [low, high], y: [low, high], xticks, yticks, areas, levels, lines },
   an area { cls, points }, a level { y, name }, a line { cls, points, name }. */
window.gfgdCurves = (root, model, settings) => {
  "use strict";
  const L = window.gfgdScene;
  const LABELS = 92, NARROW = 620, HEIGHT = 230, APART = 15;
  const state = { ...settings };
  L.begin(root);
  const svg = L.svg(root, "svg", { role: "group", "aria-label": model.label });
  const defs = L.svg(svg, "defs");
  const panels = Array.from({ length: model.panels }, (_, i) => ({
    clip: L.svg(L.svg(defs, "clipPath", { id: `${root.id}-${i}` }), "rect"),
    axes: L.svg(svg, "g"),
    marks: L.svg(svg, "g", { "clip-path": `url(#${root.id}-${i})` }),
    labels: L.svg(svg, "g"),
  }));
  const handles = (model.handles ?? []).map((handle) => {
    const mark = L.svg(svg, "g", { class: "handle", tabindex: 0, role: "slider",
      "aria-label": handle.name, "aria-valuemin": handle.min, "aria-valuemax": handle.max });
    L.svg(mark, "circle", { r: 22, class: "reach" });
    L.svg(mark, "circle", { r: 8, class: "ring" });
    L.svg(mark, "circle", { r: 2.5, class: "dot" });
    const move = (value) => {
      const steps = Math.round(value / handle.step);
      state[handle.key] = Math.min(handle.max, Math.max(handle.min, steps * handle.step));
      update();
    };
    L.drag(mark, svg, ([, y]) => move(panels[handle.panel].ys.invert(y)));
    mark.addEventListener("keydown", (e) => {
      const by = { ArrowDown: -1, ArrowLeft: -1, ArrowUp: 1, ArrowRight: 1 }[e.key];
      if (!by) return;
      e.preventDefault();
      move(state[handle.key] + by * handle.step * (e.shiftKey ? 10 : 1));
    });
    return { ...handle, mark };
  });

  const controls = L.html(root, "div", { class: "controls" });
  const sliders = (model.sliders ?? []).map((one) => [one.key, L.slider(controls,
    { ...one, value: state[one.key], input: (v) => { state[one.key] = v; update(); } })]);
  const switches = (model.switches ?? []).map((one) => {
    const row = L.html(controls, "label", { class: "switch" });
    const box = L.html(row, "input", { type: "checkbox" });
    L.html(row, "span", {}, one.label);
    box.checked = state[one.key];
    box.addEventListener("change", () => { state[one.key] = box.checked; update(); });
    return [one.key, box];
  });
  const reset = L.html(L.html(controls, "div", { class: "buttons" }), "button", { type: "button" }, "Reset");
  const message = L.html(root, "p", { class: "message", role: "status" });
  const say = L.announcer(message);
  reset.addEventListener("click", () => {
    Object.assign(state, settings);
    for (const [key, control] of sliders) control.value = state[key];
    for (const [key, box] of switches) box.checked = state[key];
    update();
  });

  let width = 0;
  function layout(given) {
    width = given;
    const beside = width >= NARROW && panels.length > 1, left = 44;
    const each = beside ? width / panels.length : width;
    panels.forEach((panel, i) => {
      const x = left + (beside ? i * each : 0), y = 28 + (beside ? 0 : i * (HEIGHT + 74));
      panel.box = [x, y, each - left - LABELS, HEIGHT];
      L.set(panel.clip, { x, y, width: panel.box[2], height: HEIGHT });
    });
    const height = panels.at(-1).box[1] + HEIGHT + 40;
    L.set(svg, { width, height, viewBox: `0 0 ${width} ${height}` });
    update();
  }

  function draw(panel, shown) {
    const [x, y, w, h] = panel.box;
    panel.xs = L.scale(...shown.x, x, x + w);
    panel.ys = L.scale(...shown.y, y + h, y);
    const at = (points) => points.map(([a, b]) => [panel.xs(a), panel.ys(b)]);
    L.axes(panel.axes, { ...shown, xs: panel.xs, ys: panel.ys });
    panel.marks.replaceChildren();
    for (const area of shown.areas ?? [])
      L.svg(panel.marks, "path", { class: `area ${area.cls}`, d: `${L.line(at(area.points))}Z` });
    for (const level of shown.levels ?? [])
      L.svg(panel.marks, "line", { class: "edge", x1: x, x2: x + w, y1: panel.ys(level.y), y2: panel.ys(level.y) });
    for (const line of shown.lines)
      L.svg(panel.marks, "path", { class: line.cls, fill: "none", d: L.line(at(line.points)) });

    // Names stand at the lines' ends, in the order of their heights, pushed apart.
    const past = handles.some((handle) => panels[handle.panel] === panel) ? 14 : 6; // beside a handle
    const inside = (v) => Math.min(y + h, Math.max(y + 8, v));
    const ends = shown.lines.filter((line) => line.name && line.points.length).map((line) => {
      const [a, b] = line.points.at(-1);
      return { x: Math.min(panel.xs(a), x + w), y: inside(panel.ys(b)), cls: line.cls, name: line.name };
    });
    ends.push(...(shown.levels ?? []).map((level) =>
      ({ x: x + w, y: inside(panel.ys(level.y)), cls: "note", name: level.name })));
    ends.sort((a, b) => a.y - b.y);
    ends.forEach((end, i) => { if (i) end.y = Math.max(end.y, ends[i - 1].y + APART); });
    const over = ends.length ? Math.max(0, ends.at(-1).y - y - h) : 0;
    panel.labels.replaceChildren();
    for (const end of ends)
      L.svg(panel.labels, "text", { x: end.x + past, y: end.y - over + 4, class: `label ${end.cls}` }, end.name);
  }

  function update() {
    if (!width) return;
    const found = model.compute(state);
    panels.forEach((panel, i) => draw(panel, found.panels[i]));
    for (const handle of handles) {
      const { xs, ys } = panels[handle.panel], value = state[handle.key];
      L.set(handle.mark, { transform: `translate(${xs(handle.x(state))},${ys(value)})`,
        "aria-valuenow": value, "aria-valuetext": L.number(value) });
    }
    root.dataset.result = JSON.stringify({ ...state, ...found.result });
    say(found.message);
  }
  L.onWidth(root, layout);
};
