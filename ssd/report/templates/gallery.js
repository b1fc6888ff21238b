// Images with their boxes. Boxes are drawn here, so that score, filter and names can change.
const SVG = "http://www.w3.org/2000/svg";
const LOOKS = {  // of a box: color (Okabe and Ito's, safe for the color-blind), dashes, mark
  found: ["#56b4e9", "", "✓"],
  missed: ["#f0e442", "9 5", "○"],
  class: ["#ff9ad5", "12 3 2 3", "≠"],
  location: ["#f5a300", "4 3", "↔"],
  both: ["#ff7a45", "12 3 2 3 2 3", "≠↔"],
  duplicate: ["#ffffff", "2 4", "2×"],
  background: ["#ff7a45", "", "✗"],
  crowd: ["#aaaaaa", "4 6", ""],
};
const two = (en, zh) => [["en", en], ["zh-CN", zh]].map(([lang, text]) => {
  const span = document.createElement("span");
  span.lang = lang; span.textContent = text;
  return span;
});
const state = {step: kit.chosen, group: "", class: "", kind: "", size: "", cell: "", tags: true};
const figures = all(".gallery figure");

function svg(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.append(node);
  return node;
}

function boxesOf(shot) {  // those that count at the chosen score, the ones to be drawn last first
  const found = shot.found.filter((row) => row[2] > state.step).map(([kind, label, , score, ltrb, size, mistaken]) =>
    ({kind: kit.kinds[kind], label, text: `${kit.classes[label]} ${score.toFixed(2)}`, ltrb, size, mistaken}));
  const missed = shot.truth.filter((row) => !row[4] && row[1] <= state.step).map(([label, , ltrb, size]) =>
    ({kind: "missed", label, text: kit.classes[label], ltrb, size, mistaken: -1}));
  const crowds = shot.truth.filter((row) => row[4]).map(([label, , ltrb, size]) =>
    ({kind: "crowd", label, text: kit.classes[label], ltrb, size, mistaken: -1}));
  return [...crowds, ...found.reverse(), ...missed];
}

function fits(box) {  // whether a box is one that the reader asked for
  if (state.cell) {
    const [t, g] = state.cell.split(",").map(Number), none = kit.classes.length;
    if (g === none) return box.kind === "missed" && box.label === t;
    if (box.kind === "missed" || box.kind === "crowd" || box.label !== g) return false;
    if (t === g) return box.kind === "found";
    return t === none ? box.kind !== "found" && box.mistaken < 0 : box.mistaken === t;
  }
  return (!state.class || box.label === Number(state.class)) && (!state.kind || box.kind === state.kind) &&
    (!state.size || box.size === Number(state.size)) && (box.kind !== "crowd" || !(state.kind || state.size));
}

function placeTag(text, [left, top, right, bottom], shot, letters, taken) {
  // above the box, in it, or below it: the first place that no other name has; else none
  const width = letters * [...text].reduce((sum, letter) => sum + (letter > "\u2e80" ? 1.05 : 0.66), 0), height = 1.1 * letters;
  const x = Math.max(Math.min(left, shot.width - width), 0);
  for (const y of [top - height, top, bottom, bottom - height]) {
    const clear = taken.every(([l, t, r, b]) => x >= r || x + width <= l || y >= b || y + height <= t);
    if (y < 0 || y + height > shot.height || !clear) continue;
    taken.push([x, y, x + width, y + height]);
    return {x: x + letters / 6, y: y + 0.85 * letters};
  }
  return null;
}

function draw(place, shot, letters) {
  for (const old of all("svg", place)) old.remove();
  const picture = svg("svg", {viewBox: `0 0 ${shot.width} ${shot.height}`, "aria-hidden": "true"}, place);
  const asked = state.class || state.kind || state.size || state.cell;
  const boxes = boxesOf(shot), tags = svg("g", {}), taken = [];
  for (const box of boxes) {
    const [left, top, right, bottom] = box.ltrb.map((value) => value / 10), [color, dashes] = LOOKS[box.kind];
    const group = svg("g", {class: asked && !fits(box) ? "other" : "", "data-kind": box.kind}, picture);
    const shape = {x: left, y: top, width: Math.max(right - left, 0), height: Math.max(bottom - top, 0)};
    svg("rect", {...shape, class: "under"}, group);
    svg("rect", {...shape, stroke: color, "stroke-dasharray": dashes}, group);
    if (box.kind === "background") svg("path", {d: `M${left} ${top}L${right} ${bottom}`, stroke: color, class: "cross"}, group);
  }
  for (const box of state.tags ? boxes.reverse() : []) {  // what is drawn last has its name first
    const [color, , mark] = LOOKS[box.kind], text = `${mark} ${box.text}`;
    const at = asked && !fits(box) ? null : placeTag(text, box.ltrb.map((value) => value / 10), shot, letters, taken);
    if (at) svg("text", {...at, fill: color, "font-size": letters, "stroke-width": letters / 4}, tags).textContent = text;
  }
  picture.append(tags);
}

function countsOf(shot) {
  const boxes = boxesOf(shot), count = (kinds) => boxes.filter((box) => kinds.includes(box.kind)).length;
  const n = {found: count(["found"]), missed: count(["missed"]), false: count(kit.errors.filter((kind) => kind !== "missed"))};
  const total = 2 * n.found + n.missed + n.false;
  n.f1 = total ? (2 * n.found / total).toFixed(2) : "–";
  return n;
}

function captionOf(shot) {
  const n = countsOf(shot);
  return two(`${n.found} found · ${n.missed} missed · ${n.false} false · F1 ${n.f1}`,
    `找到 ${n.found} · 漏检 ${n.missed} · 误检 ${n.false} · F1 ${n.f1}`);
}

function filterImages() {
  const asked = state.class || state.kind || state.size || state.cell;
  const wanted = new Set(figures.filter((figure) => (!state.group || figure.dataset.groups.split(" ").includes(state.group)) &&
    (!asked || boxesOf(kit.shots[figure.dataset.shot]).some(fits))).map((figure) => figure.dataset.pair));  // both of a pair
  for (const figure of figures) {
    const shot = kit.shots[figure.dataset.shot];
    figure.hidden = !wanted.has(figure.dataset.pair);
    if (!figure.hidden) draw(figure.querySelector(".shot"), shot, Math.max(shot.width, shot.height * 4 / 3) / 26);
    if (state.step !== kit.chosen || figure.dataset.moved) {
      figure.dataset.moved = "1";
      figure.querySelector(".counts").replaceChildren(...captionOf(shot));
    }
  }
  const shown = wanted.size;
  $("gallery-count").textContent = shown;
  $("gallery-none").hidden = shown > 0;
  for (const name of ["class", "kind", "size"]) $(`gallery-${name}`).value = state[name];
  for (const button of all("[data-group]")) button.setAttribute("aria-pressed", button.dataset.group === state.group);
  $("gallery-cell").hidden = !state.cell;
  if (state.cell) {
    const [t, g] = state.cell.split(",").map(Number), names = kit.classes;
    $("gallery-cell").replaceChildren(...two(`${names[t] ?? "background"} → ${names[g] ?? "missed"} ×`, `${names[t] ?? "背景"} → ${names[g] ?? "漏检"} ×`));
  }
  if ($("large").open) enlarge(Number($("large").dataset.shot));
}

function choose(changes) {  // the filters, all others cleared where a link or cell sets one
  Object.assign(state, {group: "", class: "", kind: "", size: "", cell: ""}, changes);
  filterImages();
}

function enlarge(index) {
  const shot = kit.shots[index], place = $("large").querySelector(".shot"), image = document.createElement("img");
  image.src = figures[index].querySelector("img").src;
  image.alt = shot.name;
  place.style.aspectRatio = `${shot.width} / ${shot.height}`;
  place.style.setProperty("--shape", shot.width / shot.height);
  place.replaceChildren(image);
  draw(place, shot, Math.max(shot.width, shot.height) / 50);
  const name = document.createElement("b");
  name.textContent = `${shot.side || ""} ${shot.name}`.trim();
  $("caption").replaceChildren(name, " ", ...captionOf(shot));
  $("large").dataset.shot = index;
  if (!$("large").open) $("large").showModal();
}

function turn(by) {  // to the next of the images that are shown, round and round
  const shown = figures.filter((figure) => !figure.hidden), now = shown.findIndex((figure) => figure.dataset.shot === $("large").dataset.shot);
  if (shown.length) enlarge(Number(shown[(now + by + shown.length) % shown.length].dataset.shot));
}

if (figures.length) {
  for (const image of all(".gallery img:not([src])")) image.src = image.closest("figure").previousElementSibling.querySelector("img").src;
  for (const kind of ["found", ...kit.errors, "crowd"]) {
    const [color, dashes, mark] = LOOKS[kind], item = document.createElement("li");
    const sign = svg("svg", {viewBox: "0 0 36 20"}, item);
    svg("rect", {x: 2, y: 2, width: 32, height: 16, stroke: color, "stroke-dasharray": dashes}, sign);
    if (kind === "background") svg("path", {d: "M2 2L34 18", stroke: color, class: "cross"}, sign);
    item.append(mark, " ", ...two(...kit.kindNames[kind]));
    $("key").append(item);
  }
  for (const button of all("[data-group]")) button.onclick = () => { state.group = button.dataset.group; filterImages(); };
  for (const name of ["class", "kind", "size"]) $(`gallery-${name}`).onchange = (event) => {
    state[name] = event.target.value; state.cell = ""; filterImages();
  };
  $("gallery-cell").onclick = $("clear").onclick = () => choose({});
  $("tags").onclick = () => { state.tags = !state.tags; $("tags").setAttribute("aria-pressed", state.tags); filterImages(); };
  for (const link of all("[data-show]")) link.onclick = () => {
    const [what, value] = link.dataset.show.split(":");
    choose({[what]: value});
  };
  for (const figure of figures) figure.querySelector("button").onclick = () => enlarge(Number(figure.dataset.shot));
  $("previous").onclick = () => turn(-1);
  $("next").onclick = () => turn(1);
  $("close").onclick = () => $("large").close();
  $("large").onclick = (event) => { if (event.target === $("large")) $("large").close(); };
  $("large").onkeydown = (event) => {
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (by) { event.preventDefault(); turn(by); }
  };
  filterImages();
}
