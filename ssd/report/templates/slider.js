// The score from which a detection counts: figures, main errors, images and curves follow it.
const ratios = {
  missed: (row, i, total) => total - row.found[i],
  false: (row, i) => kit.errors.reduce((sum, kind) => sum + (row[kind] ? row[kind][i] : 0), 0),
};
ratios.precision = (row, i) => row.found[i] / (row.found[i] + ratios.false(row, i));
ratios.recall = (row, i, total) => row.found[i] / total;
ratios.f1 = (row, i, total) => 2 * row.found[i] / (row.found[i] + ratios.false(row, i) + total);

function rowOf(path) {  // of `all.found` or `classes.3.found`: the row, its true boxes, the key
  const parts = path.split("."), key = parts.pop();
  const row = parts[0] === "all" ? kit.byScore.all : kit.byScore.classes[parts[1]];
  return [row, parts[0] === "all" ? kit.trueBoxes.reduce((a, b) => a + b, 0) : kit.trueBoxes[parts[1]], key];
}

function at(path, i) {
  const [row, total, key] = rowOf(path);
  return ratios[key] ? ratios[key](row, i, total) : row[key][i];
}

const lives = all("[data-live]").map((node) => [node, node.firstElementChild]);
const mains = all("[data-main]");

function setScore(step) {
  state.step = step;
  $("score").value = step;
  $("score-value").textContent = kit.thresholds[step].toFixed(2);
  for (const [node, figure] of lives) {
    const number = at(node.dataset.live, step) * (figure.hasAttribute("data-percent") ? 100 : 1);
    figure.textContent = Number.isNaN(number) ? "–" : number.toLocaleString("en", {
      minimumFractionDigits: node.dataset.decimals || 0, maximumFractionDigits: node.dataset.decimals || 0});
    figure.dataset.figure = `detail.by_score.${node.dataset.live}.${step}`;
  }
  for (const cell of mains) {
    const row = kit.byScore.classes[cell.dataset.main], kinds = kit.errors.filter((kind) => row[kind]);
    const most = kinds.reduce((a, b) => row[b][step] > row[a][step] ? b : a);
    cell.replaceChildren(...(row[most][step] ? two(...kit.kindNames[most]) : ["–"]));
  }
  if (figures.length) filterImages();
  drawCurves();
}

// --- curves: a class's own, and where the chosen score lies on them
function frameOf(chart) {  // from a chart's values, from 0 on both sides, to its drawing's units
  const frame = $(`${chart}-${chart}-frame`);
  if (!frame) return null;
  const box = frame.getBBox();
  return {parent: frame.parentNode, x: (value) => box.x + value * box.width,
    y: (value) => box.y + box.height * (1 - value / kit.axisTop), top: box.y, bottom: box.y + box.height};
}

function overlay(chart) {
  for (const old of all(`#chart-${chart} .overlay`)) old.remove();
  const frame = frameOf(chart);
  return frame && [frame, svg("g", {class: "overlay"}, frame.parent)];
}

function macro(key) {  // the mean over the classes with true boxes
  const rows = kit.byScore.classes.map((row, k) => [row, kit.trueBoxes[k]]).filter(([, total]) => total);
  const sum = rows.reduce((sum, [row, total]) => sum + (ratios[key](row, state.step, total) || 0), 0);
  return sum / rows.length;
}

function drawCurves() {
  const k = $("curve-class").value, path = k === "" ? "all" : `classes.${k}`, score = kit.thresholds[state.step];
  for (const chart of ["f1", "scores", "calibration"]) {
    const made = overlay(chart);
    if (made) svg("path", {d: `M${made[0].x(score)} ${made[0].top}V${made[0].bottom}`, class: "chosen"}, made[1]);
  }
  const lines = [];  // of a class: chart, number, points in the chart's values
  if (k !== "") {
    ["precision", "recall", "f1"].forEach((key, n) => lines.push(["f1", n, kit.thresholds.map((x, i) => [x, at(`${path}.${key}`, i)])]));
    (kit.curves[k] || []).forEach((curve, n) => lines.push(["pr", n, curve.map((y, i) => [i / 100, y / 1000])]));
  }
  const pr = overlay("pr");
  for (const [chart, n, points] of lines) {
    const frame = frameOf(chart), shown = points.filter(([, y]) => !Number.isNaN(y));
    if (frame) svg("polyline", {points: shown.map(([x, y]) => `${frame.x(x).toFixed(2)},${frame.y(y).toFixed(2)}`).join(" "),
      class: `class-curve c${n + 1}`}, $(`chart-${chart}`).querySelector(".overlay"));
  }
  if (pr) {
    const [recall, precision] = k === "" ? [macro("recall"), macro("precision")] : [at(`${path}.recall`, state.step), at(`${path}.precision`, state.step)];
    if (!Number.isNaN(precision)) svg("circle", {cx: pr[0].x(recall), cy: pr[0].y(precision), r: 4.5, class: "point"}, pr[1]);
  }
  for (const name of ["pr", "f1"]) if ($(`chart-${name}`)) $(`chart-${name}`).classList.toggle("one-class", k !== "");
  $("curve-readout").textContent = "";
  if (k === "") return;
  const row = $("class-table").querySelector(`tr[data-class="${k}"]`), heads = all("#class-table thead th button");
  for (const i of [1, 2, 9, 10, 11, 12]) {
    const part = document.createElement("span");
    part.append(...[...heads[i].childNodes].map((node) => node.cloneNode(true)), " ", row.cells[i].textContent, i < 12 ? " · " : "");
    $("curve-readout").append(part);
  }
}

$("score").oninput = (event) => setScore(Number(event.target.value));
$("curve-class").onchange = drawCurves;
if ($("chart-pr") || $("chart-f1")) drawCurves();

// --- the confusion matrix
const image = document.querySelector("#confusion-cells");
if (image) {
  const drawn = kit.cells.drawn, size = drawn.length, none = kit.classes.length;
  const counts = new Map(kit.cells.filled.map(([i, j, n]) => [`${i},${j}`, n]));
  const cellAt = (event) => {
    const place = image.getBoundingClientRect();
    const j = Math.floor((event.clientX - place.left) / place.width * (size + 1));
    const i = Math.floor((event.clientY - place.top) / place.height * (size + 1));
    return Math.min(i, j) < 0 || Math.max(i, j) > size ? null : [drawn[i] ?? none, drawn[j] ?? none];
  };
  const read = (event) => {
    const cell = cellAt(event);
    if (!cell) return null;
    const [i, j] = cell, n = counts.get(`${i},${j}`) || 0, names = kit.classes;
    const [te, tz] = i < none ? [names[i], names[i]] : ["background", "背景"];
    const [ge, gz] = j < none ? [`detected as ${names[j]}`, `检测为 ${names[j]}`] : ["missed", "漏检"];
    $("cell-readout").replaceChildren(...two(`${te}, ${ge}: ${n}`, `${tz}，${gz}：${n}`));
    return n ? cell : null;
  };
  image.closest("svg").onpointermove = read;
  image.closest("svg").onclick = (event) => {
    const cell = read(event);
    if (!cell || !figures.length) return;
    choose({cell: cell.join(",")});
    $("gallery").scrollIntoView();
  };
}
