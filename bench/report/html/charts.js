"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const COLUMNS = Object.fromEntries(DATA.columns.map((c) => [c.key, c]));
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a869a"];
const MARKS = ["circle", "square", "up", "diamond", "down", "left", "cross"];
const DEPLOYED = { params: "deployed_params", macs: "deployed_macs", storage_bytes: "deployed_file_bytes",
  launches: "deployed_launches" };
const tone = (verdict) => (/^better/.test(verdict || "") ? "better" : /^worse/.test(verdict || "") ? "worse" : "");
const sign = (verdict) => ({ better: "▲ ", worse: "▼ " }[tone(verdict)] || (verdict === "equivalent" ? "= " : "≈ ")) + verdict;
const main = document.getElementById("main"), nav = document.getElementById("nav");

// --- elements

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}
const add = (element, ...children) => fill(element, {}, children);
const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function section(id, title, ...children) {
  nav.append(h("a", { href: "#" + id }, title));
  const made = h("section", { id, "aria-labelledby": id + "-title" }, h("h2", { id: id + "-title" }, title), children);
  main.append(made);
  return made;
}

function choice(label, options, value, change) {
  const select = h("select", { onchange: () => change(select.value) },
    options.map(([key, text]) => h("option", { value: key, selected: key === value ? "" : null }, text)));
  return h("label", {}, label, select);
}

// --- numbers

const given = (value) => value !== null && value !== undefined && value !== "";
const title = (column) => (column.unit ? `${column.header} (${column.unit})` : column.header);

function text(column, value) {
  if (!given(value)) return "–";
  if (column.digits === null) return String(value);
  const number = value * column.scale;
  if (column.least !== null && number < column.least) return "< " + column.least;
  const shown = number.toLocaleString("en", { minimumFractionDigits: column.digits,
    maximumFractionDigits: column.digits, signDisplay: column.signed ? "exceptZero" : "auto" });
  return shown.replace("-", "−");
}

function withInterval(column, row) {
  const [low, high] = [row[column.low], row[column.high]];
  const value = text(column, row[column.key]);
  return column.low && given(low) && given(high) ? `${value} [${text(column, low)}, ${text(column, high)}]` : value;
}

// --- scales and axes

function scale(values, from, to, logarithmic, room = 0.06) {
  const [f, g] = logarithmic ? [Math.log10, (v) => 10 ** v] : [(v) => v, (v) => v];
  let low = f(Math.min(...values)), high = f(Math.max(...values));
  const spread = high - low || Math.abs(high) * 0.2 || 1;
  low -= room * spread;
  high += room * spread;
  const at = (value) => from + ((f(value) - low) / (high - low)) * (to - from);
  return { at, low: g(low), high: g(high), ticks: ticks(g(low), g(high), logarithmic) };
}

function ticks(low, high, logarithmic) {
  const found = [];
  if (logarithmic) {
    const steps = Math.log10(high / low) < 2.4 ? [1, 2, 5] : [1];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const step of steps) found.push(step * 10 ** power);
  } else {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((m) => m >= rough);
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
  }
  return found.filter((tick) => tick >= low && tick <= high);
}

const plain = (value) => Number(value.toPrecision(6)).toLocaleString("en", { maximumSignificantDigits: 6 });
const isLog = (column, values) => column.unit !== "%" && Math.min(...values) > 0 &&
  Math.max(...values) / Math.min(...values) >= 8;

function frame(x, y, size, labels) {
  const { width, height, left, bottom, top, right } = size;
  return [
    ...x.ticks.map((tick) => [
      s("line", { class: "grid", x1: x.at(tick), x2: x.at(tick), y1: top, y2: height - bottom }),
      s("text", { x: x.at(tick), y: height - bottom + 16, "text-anchor": "middle" }, plain(tick)),
    ]).flat(),
    ...y.ticks.map((tick) => [
      s("line", { class: "grid", y1: y.at(tick), y2: y.at(tick), x1: left, x2: width - right }),
      s("text", { x: left - 6, y: y.at(tick) + 4, "text-anchor": "end" }, plain(tick)),
    ]).flat(),
    s("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, labels[0]),
    s("text", { x: -(top + height - bottom) / 2, y: 13, transform: "rotate(-90)", "text-anchor": "middle" }, labels[1]),
  ];
}

function mark(kind, x, y, size, colour) {
  const shape = { circle: null, square: [[-1, -1], [1, -1], [1, 1], [-1, 1]], up: [[0, -1.2], [1.15, 0.9], [-1.15, 0.9]],
    down: [[0, 1.2], [1.15, -0.9], [-1.15, -0.9]], diamond: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
    left: [[-1.2, 0], [0.9, 1.15], [0.9, -1.15]],
    cross: [[-1, -1], [0, -0.4], [1, -1], [0.4, 0], [1, 1], [0, 0.4], [-1, 1], [-0.4, 0]] }[kind];
  const looks = { class: "mark", fill: colour, stroke: "var(--paper)", "stroke-width": 1 };
  if (!shape) return s("circle", { cx: x, cy: y, r: size, ...looks });
  return s("polygon", { points: shape.map(([a, b]) => `${x + a * size},${y + b * size}`).join(" "), ...looks });
}

const MET = [...DATA.rows, ...DATA.searches.flatMap((one) => one.trials)];
const named = (rows) => rows.map((r) => r.family).sort();
const FAMILIES = [...new Set([...named(MET.filter((r) => given(r.f1))), ...named(MET)])];  // with a score first, as in the figures
const looks = (family) => {
  const i = Math.max(0, FAMILIES.indexOf(family));
  return { colour: COLOURS[i % 7], kind: MARKS[(i + Math.floor(i / 7)) % 7] };
};

function legend(families) {
  return h("div", { class: "legend" }, families.map((family) => {
    const { colour, kind } = looks(family);
    return h("span", {}, s("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, mark(kind, 7, 7, 5, colour)), family);
  }));
}

// --- what is shown beside the pointer and on a click

const tip = document.getElementById("tip"), details = document.getElementById("details");

function showTip(target, lines) {
  tip.replaceChildren(h("b", {}, lines[0]), ...lines.slice(1).map((line) => h("div", {}, line)));
  tip.hidden = false;
  const at = target.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const left = Math.min(Math.max(6, at.left + at.width / 2 - own.width / 2), innerWidth - own.width - 6);
  tip.style.left = left + "px";
  tip.style.top = (at.top > own.height + 12 ? at.top - own.height - 8 : at.bottom + 8) + "px";
}

function verdictLines(row) {
  return (row.verdicts || []).map((v) =>
    `Against ${v.base}: ${sign(v.verdict)}, ` +
    `${text(COLUMNS.effect, v.effect)} [${text(COLUMNS.effect, v.effect_low)}, ${text(COLUMNS.effect, v.effect_high)}] ` +
    `points${v.scenes_verdict ? `; for other scenes: ${sign(v.scenes_verdict)}` : ""} (${v.study})`);
}

const speedOf = (row) => (given(row.latency_ms) || given(row.throughput)) && row.speed;
const speedsOf = (rows) => [...new Set(rows.map(speedOf).filter((told) => told))].join(" Others: ");

function showDetails(row) {
  const numbers = DATA.columns.filter((c) => c.digits !== null && given(row[c.key])).map((c) =>
    h("tr", {}, h("td", { class: "text" }, title(c)), h("td", {}, withInterval(c, row))));
  const command = row.command && h("div", {}, h("h3", {}, "The command that makes it again"), h("pre", {}, row.command),
    h("button", { onclick: () => navigator.clipboard && navigator.clipboard.writeText(row.command) }, "Copy"));
  const inside = [
    h("button", { onclick: () => details.close(), autofocus: "", style: "float:right" }, "Close"),
    h("h2", { style: "margin-top:0" }, row.variant),
    h("p", { class: "small" }, [row.family, row.studies && "in " + row.studies.join(", "), row.condition_text]
      .filter(given).join("; ")),
    row.reason ? h("p", { class: "worse" }, `${row.status}: ${row.reason}`) : null,
    speedOf(row) ? h("p", { class: "small" }, "Speed: " + speedOf(row)) : null,
    h("ul", {}, verdictLines(row).map((line) => h("li", {}, line))),
    command || null,
    row.config ? h("div", {}, h("h3", {}, "Config"), h("pre", {}, JSON.stringify(row.config, null, 1))) : null,
    h("h3", {}, "Figures"), h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, numbers))),
    row.keys && row.keys.length ? h("p", { class: "small" }, "Records: " + row.keys.join(", ")) : null,
  ];
  details.replaceChildren(...inside.filter((child) => child !== null));
  details.showModal();
}

// --- a scatter of rows on two columns, with its Pareto front

function frontOf(points, xc, yc) {
  const sign = [xc.better === "high" ? -1 : 1, yc.better === "low" ? 1 : -1];
  const worse = (a, b) => b.x * sign[0] <= a.x * sign[0] && b.y * sign[1] <= a.y * sign[1] && (a.x !== b.x || a.y !== b.y);
  return points.filter((a) => !points.some((b) => worse(a, b))).sort((a, b) => sign[0] * (a.x - b.x));
}

function farBelow(points, yc) {
  if (yc.unit !== "%" || points.length < 6) return new Set();
  const sorted = points.map((p) => p.y).sort((a, b) => a - b);
  const quarter = (q) => sorted[Math.floor(q * (sorted.length - 1))];
  const fence = quarter(0.25) - 3 * (quarter(0.75) - quarter(0.25));
  const usual = points.filter((p) => p.y >= fence);
  const low = Math.min(...usual.map((p) => p.low)), high = Math.max(...usual.map((p) => p.high));
  return new Set(points.filter((p) => p.y < fence && p.y < low - (high - low) / 4));
}

function scatter(rows, xc, yc, options) {
  const value = (row, c) => row[(options.deployed && DEPLOYED[c.key]) || c.key];
  const points = rows.filter((row) => given(value(row, xc)) && given(value(row, yc))).map((row) => {
    const y = value(row, yc) * yc.scale, bound = (key) => (key && given(row[key]) ? row[key] * yc.scale : y);
    return { row, x: value(row, xc) * xc.scale, y, low: bound(yc.low), high: bound(yc.high) };
  });
  if (!points.length) return h("p", { class: "small" }, "No network has both of these figures under these filters.");
  const width = Math.max(320, Math.min(1100, main.clientWidth - 34)), height = width < 600 ? 360 : 460;
  const size = { width, height, left: 52, right: 16, top: 12, bottom: 42 };
  const below = farBelow(points, yc), inside = points.filter((p) => !below.has(p));
  const xs = points.map((p) => p.x).concat(options.limit ? [options.limit * xc.scale] : []);
  const x = scale(xs, size.left, width - size.right, isLog(xc, xs));
  const ys = inside.flatMap((p) => [p.low, p.high]);
  const y = scale(ys, height - size.bottom, size.top, isLog(yc, ys));
  const arrow = { low: ["← better", "← better"], high: ["better →", "better →"] };
  const label = (c, i) => `${options.deployed && DEPLOYED[c.key] ? title(COLUMNS[DEPLOYED[c.key]]) : title(c)}   ${c.better ? arrow[c.better][i] : ""}`;
  const front = frontOf(points, xc, yc), onFront = new Set(front), shown = front.filter((p) => !below.has(p));
  const floor = y.at(yc.better === "low" ? y.high : y.low), wall = x.at(xc.better === "high" ? x.low : x.high);
  let path = "";
  shown.forEach((p, i) => { path += i ? `H${x.at(p.x)}V${y.at(p.y)}` : `M${x.at(p.x)},${floor}V${y.at(p.y)}`; });
  const shownAs = (c) => (options.deployed && DEPLOYED[c.key] ? COLUMNS[DEPLOYED[c.key]] : c);
  const drawn = points.map((p) =>
    point(p, x, y, below.has(p) ? height - size.bottom - 8 : null, onFront.has(p), shownAs(xc), shownAs(yc)));
  const names = points.filter((p) => onFront.has(p) || p.row.is_base || below.has(p));
  return s("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${yc.header} against ${xc.header}` },
    shown.length ? s("path", { class: "area", d: `${path}H${wall}V${floor}Z` }) : null,
    frame(x, y, size, [label(xc, 0), label(yc, 1)]),
    options.limit ? s("line", { class: "zero", "stroke-dasharray": "5 4", x1: x.at(options.limit * xc.scale),
      x2: x.at(options.limit * xc.scale), y1: size.top, y2: height - size.bottom }) : null,
    shown.length ? s("path", { class: "front", d: `${path}H${wall}` }) : null,
    drawn, placed(names, x, y, width, size, below, height, yc));
}

function point(p, x, y, edge, front, xc, yc) {
  const { colour, kind } = looks(p.row.family), at = [x.at(p.x), edge === null ? y.at(p.y) : edge];
  const timed = [xc.key, yc.key].some((key) => /latency|throughput/.test(key)) && speedOf(p.row);
  const lines = [p.row.variant, `${yc.header}: ${withInterval(yc, p.row)} ${yc.unit}`,
    `${xc.header}: ${withInterval(xc, p.row)} ${xc.unit}`, timed || "", ...verdictLines(p.row), p.row.reason].filter(given);
  const group = s("g", { class: "point", tabindex: 0, role: "button", "aria-label": lines.join(". "),
    onclick: () => showDetails(p.row), onmouseenter: () => showTip(group, lines), onfocus: () => showTip(group, lines),
    onmouseleave: () => (tip.hidden = true), onblur: () => (tip.hidden = true),
    onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); showDetails(p.row); } } },
    edge === null && p.low < p.high ? s("line", { x1: at[0], x2: at[0], y1: y.at(p.low), y2: y.at(p.high), stroke: colour,
      "stroke-opacity": 0.4, "stroke-width": 1.5 }) : null,
    mark(kind, at[0], at[1], front ? 7 : 5.5, colour));
  if (front) group.querySelector(".mark").setAttribute("stroke", "var(--ink)");
  return group;
}

function placed(points, x, y, width, size, below, height, yc) {
  const taken = [];
  return points.sort((a, b) => y.at(a.y) - y.at(b.y)).map((p) => {
    const words = below.has(p) ? `↓ ${p.row.variant}: ${text(yc, p.row[yc.key])} ${yc.unit}` : p.row.variant;
    const own = 7.5 * words.length, px = x.at(p.x), py = below.has(p) ? height - size.bottom - 8 : y.at(p.y);
    const places = [[px + 10, py - 7], [px - 10 - own, py - 7], [px + 10, py + 15], [px - 10 - own, py + 15],
      [px - own / 2, py - 14], [px - own / 2, py + 24]];
    const free = places.find(([a, b]) => a > size.left && a + own < width && b > 10 &&
      !taken.some((t) => a < t[0] + t[2] && t[0] < a + own && Math.abs(b - t[1]) < 14));
    if (!free) return null;
    taken.push([...free, own]);
    return s("text", { class: "name", x: free[0], y: free[1] + 4 }, words);
  });
}
