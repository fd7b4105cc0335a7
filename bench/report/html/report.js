// The sections of the report; `charts.js` stands before this file.

// --- a table that can be sorted

function table(rows, columns, options = {}) {
  const body = h("tbody"), order = { key: options.sort, down: true };
  const heads = columns.map((c, i) => h("th", { class: c.digits === null ? "text" : "", scope: "col" },
    h("button", { onclick: () => { order.down = order.key === c.key ? !order.down : c.better !== "low"; order.key = c.key; draw(); } },
      title(c) + ({ high: " ↑", low: " ↓" }[c.better] || ""))));
  const best = Object.fromEntries(columns.map((c) => {
    const texts = rows.filter((r) => given(r[c.key]) && !r.reason);
    const values = texts.map((r) => r[c.key]);
    return [c.key, c.better && values.length > 1 ? text(c, c.better === "high" ? Math.max(...values) : Math.min(...values)) : null];
  }));
  function draw() {
    const c = COLUMNS[order.key] || columns.find((one) => one.key === order.key);
    const sorted = c ? [...rows].sort((a, b) => compare(a[c.key], b[c.key], order.down)) : rows;
    heads.forEach((head, i) => head.setAttribute("aria-sort", columns[i].key !== order.key ? "none" : order.down ? "descending" : "ascending"));
    body.replaceChildren(...sorted.map((row) => h("tr", { class: row.reason ? "trouble" : "" }, columns.map((one, i) => cell(row, one, i)))));
  }
  function cell(row, c, i) {
    if (!i) return h("th", { scope: "row" }, options.details ? h("button", { onclick: () => showDetails(row) }, row[c.key]) : String(row[c.key] ?? "–"));
    if (/verdict$/.test(c.key) && given(row[c.key])) return h("td", { class: "text " + tone(row[c.key]) }, sign(row[c.key]));
    const isBest = best[c.key] !== null && given(row[c.key]) && !row.reason && text(c, row[c.key]) === best[c.key];
    const long = c.digits === null && String(row[c.key] ?? "").length > 40;
    return h("td", { class: (c.digits === null ? "text" : "") + (isBest ? " best" : "") + (long ? " wrap" : "") }, withInterval(c, row));
  }
  draw();
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": options.label || "Table" },
    h("table", { class: columns.length > 10 ? "wide" : "" }, h("thead", {}, h("tr", {}, heads)), body));
}

function compare(a, b, down) {
  if (!given(a) || !given(b)) return given(a) ? -1 : given(b) ? 1 : 0;
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return down ? -order : order;
}

// --- sections

function networks() {
  if (!DATA.rows.length) return;
  const conditions = DATA.conditions.map((c) => [c.id, c.text]);
  const view = { condition: conditions[0][0], x: null, y: null, deployed: false, words: "", family: "", study: "", scored: false };
  const home = section("front", "Front"), controls = h("div", { class: "controls" }), chart = h("div", { id: "chart" });
  const filters = h("div", { class: "controls" }), note = h("p", { class: "small", id: "count", "aria-live": "polite" });
  const list = h("div"), speed = h("p", { class: "small" });
  add(home, filters, controls, chart, note);
  section("table", "Table", h("p", { class: "small" }, "Click a header to sort, a name for its config and command. Bold: the best value. " +
    "▲ and ▼: better or worse than the base of its study; = and ≈: equivalent or undecided, so a tie with the base."), speed, list);
  const ofCondition = () => DATA.rows.filter((row) => row.condition === view.condition);
  const numeric = (rows) => DATA.columns.filter((c) => c.axis && rows.some((row) => given(row[c.key])));
  const chosen = () => ofCondition().filter((row) => (!view.family || row.family === view.family) &&
    (!view.study || row.studies.includes(view.study)) && (!view.scored || given(row.f1)) &&
    view.words.toLowerCase().split(/\s+/).every((word) => `${row.variant} ${row.family} ${row.factor || ""} ${row.verdict || ""}`.toLowerCase().includes(word)));
  function start() {
    const rows = ofCondition(), axes = numeric(rows), keys = axes.map((c) => c.key);
    view.y = keys.includes("f1") ? "f1" : keys.includes("params") ? "params" : keys[0];
    view.x = ["macs", "latency_ms", "params"].find((key) => keys.includes(key) && key !== view.y) || keys[0];
    view.scored = keys.includes("f1");
    view.family = view.study = "";
    const options = axes.map((c) => [c.key, title(c)]);
    const families = [...new Set(rows.map((r) => r.family))].sort(), studies = [...new Set(rows.flatMap((r) => r.studies))].sort();
    const set = (key) => (value) => { view[key] = value; draw(); };
    const box = (label, key) => { const input = h("input", { type: "checkbox", id: "is-" + key, onchange: () => { view[key] = input.checked; draw(); } });
      input.checked = view[key]; return h("label", { class: "box" }, input, label); };
    const search = h("input", { type: "search", id: "filter", placeholder: "name, family, verdict", oninput: () => { view.words = search.value.trim(); draw(); } });
    search.value = view.words;
    filters.replaceChildren(
      ...(conditions.length > 1 ? [choice("Data, training and size", conditions, view.condition, (value) => { view.condition = value; start(); })] : []),
      h("label", {}, "Filter", search),
      choice("Family", [["", "all"], ...families.map((f) => [f, f])], "", set("family")),
      choice("Study", [["", "all"], ...studies.map((f) => [f, f])], "", set("study")), box("only with a score", "scored"));
    controls.replaceChildren(choice("Vertical axis", options, view.y, set("y")), choice("Horizontal axis", options, view.x, set("x")),
      ...(axes.some((c) => c.key.startsWith("deployed_")) ? [box("costs of the deployed form", "deployed")] : []));
    controls.querySelectorAll("select").forEach((select, i) => (select.id = ["axis-y", "axis-x"][i]));
    draw();
  }
  function draw() {
    const rows = chosen(), condition = DATA.conditions.find((c) => c.id === view.condition);
    chart.replaceChildren(legend([...new Set(rows.map((r) => r.family))].sort()),
      scatter(rows, COLUMNS[view.x], COLUMNS[view.y], { deployed: view.deployed }));
    const figure = (row, key) => row[(view.deployed && DEPLOYED[key]) || key];
    const missing = rows.filter((row) => !given(figure(row, view.x)) || !given(figure(row, view.y)));
    note.textContent = `${rows.length} of ${ofCondition().length} networks. ${condition.text}. ` +
      (/latency|throughput/.test(view.x + view.y) && speedsOf(rows) ? speedsOf(rows) + " " : "") +
      "Bars are 95 % intervals; the front is that of the point estimates. " +
      (missing.length ? `Without these figures: ${missing.map((r) => r.variant + (r.reason ? ` (${r.status}: ${r.reason})` : "")).join(", ")}.` : "");
    const columns = DATA.columns.filter((c) => c.table && (c.key === "variant" || rows.some((row) => given(row[c.key]))));
    speed.textContent = speedsOf(rows) ? "Speed: " + speedsOf(rows) : "";
    list.replaceChildren(table(rows, columns, { details: true, sort: columns.some((c) => c.key === "f1") ? "f1" : "variant", label: "All networks" }));
  }
  start();
  let waiting;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 150); });
}

function effects() {
  const studies = DATA.studies.filter((study) => study.effects.length);
  if (!studies.length) return;
  const home = section("effects", "Effects", h("p", { class: "small" },
    "Difference in macro F1 to the base, in points, with its interval, and the verdict on it."));
  for (const study of studies) add(home, h("h3", {}, study.name), h("p", {}, study.question), forest(study.effects),
    table(study.effects, DATA.effect_columns.filter((c) => c.key === "variant" || study.effects.some((row) => given(row[c.key]))), { sort: "effect", label: `Effects of ${study.name}` }),
    h("p", { class: "small" }, study.caption));
}

function forest(rows) {
  const judged = rows.filter((row) => given(row.effect)), width = Math.max(320, Math.min(900, main.clientWidth - 34));
  if (!judged.length) return h("p", { class: "small" }, "No effect is measured yet.");
  const left = Math.min(240, width * 0.42), step = 22, height = step * judged.length + 34;
  const ends = judged.flatMap((row) => [row.effect_low ?? row.effect, row.effect_high ?? row.effect]).map((v) => 100 * v);
  const x = scale([...ends, 0], left, width - 14, false);
  const lines = judged.map((row, i) => {
    const y = step * i + 14, colour = { better: "var(--good)", worse: "var(--bad)" }[tone(row.verdict)] || "var(--neutral)";
    return [s("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, cut(row.variant, left / 6.6)),
      given(row.effect_low) ? s("line", { x1: x.at(100 * row.effect_low), x2: x.at(100 * row.effect_high), y1: y, y2: y, stroke: colour, "stroke-width": 2 }) : null,
      mark({ better: "up", worse: "down" }[tone(row.verdict)] || "circle", x.at(100 * row.effect), y, 5, colour)];
  });
  return s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", style: `max-width:${width}px`,
    "aria-label": "Effects with their intervals; the table below holds the same figures" },
    x.ticks.map((tick) => [s("line", { class: tick ? "grid" : "zero", x1: x.at(tick), x2: x.at(tick), y1: 0, y2: height - 30 }),
      s("text", { x: x.at(tick), y: height - 14, "text-anchor": "middle" }, plain(tick))]).flat(), lines.flat());
}
const cut = (words, most) => (words.length > most ? words.slice(0, most - 1) + "…" : words);

function perClass() {
  const studies = DATA.studies.filter((study) => study.class_names.length && Object.keys(study.per_class).length);
  if (!studies.length) return;
  const home = section("classes", "Per class", h("p", { class: "small" },
    "F1 in percent by class, the mean over seeds. Colour: above (blue) or below (orange) the class's median network."));
  for (const study of studies) {
    const names = Object.keys(study.per_class), columns = [...study.class_names, "Macro"];
    const grid = names.map((name) => { const f1 = study.per_class[name], all = f1.filter(given);
      return [...f1, study.macros[name] ?? all.reduce((a, b) => a + b, 0) / all.length]; });
    const medians = columns.map((_, j) => { const all = grid.map((row) => row[j]).filter(given).sort((a, b) => a - b); return all[Math.floor(all.length / 2)]; });
    const shade = (value, j) => { const far = 100 * (value - medians[j]);
      return `--tone:var(--${far < 0 ? "bad" : "good"});--share:${Math.min(45, 3 * Math.abs(far)).toFixed(0)}%`; };
    add(home, h("h3", {}, study.name), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Classes of ${study.name}` },
      h("table", {}, h("thead", {}, h("tr", {}, h("th", { class: "text" }, "Variant"), columns.map((c) => h("th", { scope: "col" }, c)))),
        h("tbody", {}, names.map((name, i) => h("tr", {}, h("th", { scope: "row" }, name), grid[i].map((value, j) =>
          given(value) ? h("td", { class: "heat", style: shade(value, j) }, (100 * value).toFixed(1)) : h("td", {}, "absent"))))))));
  }
}

function curves() {
  const studies = DATA.studies.filter((study) => Object.keys(study.curves).length);
  if (!studies.length) return;
  const home = section("curves", "Learning curves", h("p", { class: "small" },
    "Macro F1 on validation tiles against steps, a line a seed; dashed: training loss, on its own scale."));
  for (const study of studies) {
    const runs = Object.values(study.curves).flat(2);
    const x = scale(runs.map((p) => p[0]), 34, 292, false, 0.02), y = scale(runs.map((p) => 100 * p[1]), 128, 8, false);
    const losses = runs.map((p) => p[2]).filter((l) => given(l)), z = losses.length ? scale(losses, 128, 8, false) : null;
    const line = (run, value, at, looks) => s("path", { fill: "none", ...looks, d: run.filter((p) => given(value(p)))
      .map((p, i) => `${i ? "L" : "M"}${x.at(p[0])},${at(value(p))}`).join("") });
    add(home, h("h3", {}, study.name), h("div", { class: "curves" }, Object.entries(study.curves).map(([name, seeds]) =>
      h("figure", {}, h("figcaption", {}, name), s("svg", { viewBox: "0 0 300 150", role: "img", "aria-label": `Learning curves of ${name}` },
        y.ticks.map((tick) => [s("line", { class: "grid", x1: 34, x2: 292, y1: y.at(tick), y2: y.at(tick) }), s("text", { x: 30, y: y.at(tick) + 4, "text-anchor": "end" }, plain(tick))]).flat(),
        x.ticks.map((tick) => s("text", { x: x.at(tick), y: 145, "text-anchor": "middle" }, plain(tick))),
        seeds.map((run) => z ? line(run, (p) => p[2], z.at, { stroke: "var(--neutral)", "stroke-dasharray": "3 3", "stroke-opacity": 0.6 }) : null),
        seeds.map((run) => line(run, (p) => 100 * p[1], y.at, { stroke: "var(--good)", "stroke-width": 1.6 })))))));
  }
}

function panels() {
  const studies = DATA.studies.filter((study) => study.tiles.length);
  if (!studies.length) return;
  const home = section("panels", "Predictions");
  for (const study of studies) {
    const grid = h("div", { class: "tiles" });
    const draw = (i) => grid.replaceChildren(...study.pictures.map((one) => h("figure", {}, h("figcaption", {}, one.name),
      h("img", { src: one.tiles[i], alt: `${one.name}, ${study.tiles[i]}` }))));
    add(home, h("h3", {}, study.name), h("div", { class: "controls" }, choice("Test tile", study.tiles.map((name, i) => [String(i), name]), "0", (i) => draw(Number(i)))),
      h("div", { class: "legend" }, study.class_names.map((name, i) => h("span", {}, h("span", { class: "swatch", style: `background:${study.class_colours[i]}` }), name))), grid,
      study.pictures.some((one) => one.name === "Truth") ? null : h("p", { class: "small" }, "Images and truth were not given: add --data to the command that makes this report."));
    draw(0);
  }
}

function searches() {
  if (!DATA.searches.length) return;
  const home = section("search", "Search");
  for (const search of DATA.searches) {
    const cost = COLUMNS[search.cost], f1 = { ...COLUMNS.f1, header: "Macro F1 on validation tiles", low: null, high: null };
    const chart = h("div"), history = h("div");
    add(home, h("h3", {}, search.name), h("p", {}, search.caption), search.findings.map((line) => h("p", {}, line)), chart, h("h3", {}, "History"), history,
      h("h3", {}, "Trials"), table(search.trials, [COLUMNS.variant, { ...cost, low: null, high: null }, f1, ...DATA.reason_columns], { details: true, sort: "f1", label: `Trials of ${search.name}` }));
    const draw = () => { chart.replaceChildren(scatter(search.trials, { ...cost, low: null, high: null }, f1, { limit: search.limit })); history.replaceChildren(byTrial(search.trials)); };
    draw();
    addEventListener("resize", () => setTimeout(draw, 160));
  }
}

function byTrial(trials) {
  const scored = trials.map((t, i) => ({ i: i + 1, f1: t.f1, row: t })).filter((p) => given(p.f1));
  if (!scored.length) return h("p", { class: "small" }, "No trial has a score yet.");
  const width = Math.max(320, Math.min(1100, main.clientWidth - 34)), size = { width, height: 240, left: 52, right: 16, top: 10, bottom: 42 };
  const x = scale([1, trials.length], size.left, width - 16, false, 0.02), y = scale(scored.map((p) => 100 * p.f1), 198, 10, false);
  let best = -1, path = "";
  for (const p of scored) { if (p.f1 > best) { path += path ? `H${x.at(p.i)}V${y.at(100 * p.f1)}` : `M${x.at(p.i)},${y.at(100 * p.f1)}`; best = p.f1; } }
  return s("svg", { viewBox: `0 0 ${width} 240`, role: "img", "aria-label": "Score of every trial and the best so far" },
    frame(x, y, size, ["trial", "validation F1 (%)"]), s("path", { class: "front", d: path + `H${x.at(trials.length)}` }),
    scored.map((p) => s("circle", { cx: x.at(p.i), cy: y.at(100 * p.f1), r: 3.5, fill: "var(--good)" }, s("title", {}, `${p.row.variant}: ${(100 * p.f1).toFixed(1)} %`))));
}

function others() {
  for (const [i, one] of DATA.tables.entries()) section(`study-${i}`, one.name, h("p", {}, one.question), h("p", { class: "small" }, one.caption),
    h("ul", {}, one.findings.map((line) => h("li", {}, line))),
    one.pictures.map((src) => h("figure", { class: "picture" }, h("img", { src, alt: `Figure of ${one.name}; the table below holds its figures` }))),
    one.rows.length ? table(one.rows, one.columns, { label: one.name }) : null);
}

function findings() {
  const home = section("findings", "Findings and conditions");
  for (const study of DATA.studies) add(home, h("h3", {}, study.name), h("p", {}, study.question), h("p", { class: "small" }, study.caption),
    study.speed ? h("p", { class: "small" }, "Speed: " + study.speed) : null, h("ul", {}, study.findings.map((line) => h("li", {}, line))));
}

function failures() {
  const rows = [...DATA.rows, ...DATA.tables.flatMap((one) => one.rows.map((row) => ({ ...row, variant: row.variant ?? row[one.columns[0].key], studies: [one.name] }))),
    ...DATA.searches.flatMap((search) => search.trials.map((trial) => ({ ...trial, studies: [search.name] })))]
    .filter((row) => given(row.reason));
  section("failures", "What failed", rows.length ? h("ul", {}, rows.map((row) => h("li", {}, h("b", {}, row.variant), ` (${row.studies.join(", ")}) ${row.status}: ${row.reason}`)))
    : h("p", {}, "Nothing failed and nothing was skipped."));
}

[networks, findings, effects, perClass, curves, panels, searches, others, failures].forEach((draw) => draw());
main.append(h("p", { class: "small" }, DATA.made));
