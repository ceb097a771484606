"use strict";
// Draws the figures, in the colours of the day or the night, all of them or what is of one model.
const report = JSON.parse(document.getElementById("report").textContent);
const root = document.documentElement;
const night = window.matchMedia("(prefers-color-scheme: dark)");
let theme = null; // of the button; null: as the system has it
let chosen = null; // the place of a model in report.models; null: all

const keeps = (group) => chosen === null || group < 0 || report.groups[group].includes(chosen);

// A trace without the points that are not of the chosen model. Of a map, points are rows.
function kept(trace) {
  const of = trace.meta.of;
  if (chosen === null) return trace;
  if (!Array.isArray(of)) return keeps(of) ? trace : null;
  const stays = of.map(keeps);
  const cut = (list) => (Array.isArray(list) ? list.filter((_, place) => stays[place]) : list);
  const less = { ...trace, meta: { ...trace.meta, of: cut(of) } };
  for (const name of trace.meta.rows ? ["y", "z", "customdata"] : ["x", "y", "base", "text", "customdata"]) {
    if (name in trace) less[name] = cut(trace[name]);
  }
  if (trace.marker) less.marker = { ...trace.marker, color: cut(trace.marker.color), symbol: cut(trace.marker.symbol) };
  if (trace.error_y) less.error_y = { ...trace.error_y, array: cut(trace.error_y.array), arrayminus: cut(trace.error_y.arrayminus) };
  return less.meta.of.length ? less : null;
}

function layoutOf(figure, data) {
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const layout = {
    margin: { l: 20, r: 20, t: 10, b: 30 }, legend: { orientation: "h", yanchor: "bottom", y: 1.01, x: 0 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("--ink"), size: 12 },
    hoverlabel: { align: "left", bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    ...figure.layout, height: figure.height,
  };
  const lines = new Set(data.filter((trace) => trace.type !== "scatter").flatMap((trace) => trace.y || []));
  if (figure.line_px) layout.height = Math.min(figure.height, report.frame_px + figure.line_px * lines.size);
  for (const name of ["xaxis", "yaxis", ...Object.keys(figure.layout).filter((key) => /^[xy]axis\d+$/.test(key))]) {
    layout[name] = { automargin: true, gridcolor: colour("--line"), zerolinecolor: colour("--line"), ...figure.layout[name] };
    if (layout[name].categoryarray) layout[name].categoryarray = layout[name].categoryarray.filter((line) => lines.has(line));
  }
  return layout;
}

async function draw(figure) {
  const section = document.getElementById(figure.id);
  const plot = section.querySelector(".plot");
  const data = figure.data.map(kept).filter(Boolean);
  section.querySelector(".none").hidden = data.length > 0;
  plot.hidden = data.length === 0;
  if (!data.length) return;
  const layout = layoutOf(figure, data);
  plot.style.minHeight = `${layout.height}px`;
  await Plotly.react(plot, data, layout, { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] });
  if (plot.dataset.listens) return;
  plot.dataset.listens = "yes";
  plot.on("plotly_click", (event) => {
    const { data: trace, pointNumber } = event.points[0];
    const group = Array.isArray(trace.meta.of) ? trace.meta.of[Array.isArray(pointNumber) ? pointNumber[0] : pointNumber] : trace.meta.of;
    const models = group < 0 ? [] : report.groups[group];
    if (models.length === 1) choose(models[0]);
  });
}

// Figures are drawn when they come near what is on the screen: plotly takes a moment for each.
const near = new Set();
const stale = new Set();
let drawing = 0;
async function drawNear() {
  const mine = ++drawing;
  delete root.dataset.drawn;
  for (const figure of report.figures) {
    if (!near.has(figure.id) || !stale.delete(figure.id)) continue;
    await draw(figure);
    await new Promise((next) => setTimeout(next)); // what a person does in between is not kept waiting
    if (mine !== drawing) return;
  }
  performance.mark("drawn");
  root.dataset.drawn = "yes";
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) near[entry.isIntersecting ? "add" : "delete"](entry.target.id);
  drawNear();
}, { rootMargin: "300px" });

function drawAll() {
  for (const figure of report.figures) if (figure.data.length) stale.add(figure.id);
  drawNear();
}

function choose(model) {
  chosen = model === chosen ? null : model;
  const bar = document.getElementById("chosen");
  bar.hidden = chosen === null;
  bar.querySelector("b").textContent = chosen === null ? "" : report.models[chosen];
  for (const button of document.querySelectorAll("button[data-model]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.model) === chosen));
  }
  drawAll();
}

function dress() {
  root.dataset.theme = theme ?? (night.matches ? "dark" : "light");
}

document.getElementById("theme").addEventListener("click", () => {
  theme = root.dataset.theme === "dark" ? "light" : "dark";
  dress();
  drawAll();
});
night.addEventListener("change", () => { dress(); drawAll(); });
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-model]");
  if (button) choose(Number(button.dataset.model));
});
document.getElementById("all").addEventListener("click", () => choose(chosen));
dress();
for (const figure of report.figures) {
  if (figure.data.length) stale.add(figure.id);
  watcher.observe(document.getElementById(figure.id)); // calls back at once, with all of them
}
