// The population in look: every picture draws all rows, and shows which of them are chosen.
//
// A choice in one picture is a mask over all rows, kept under the picture's name. What is chosen is
// the intersection of all masks, and every picture that has been drawn is told when it changes.
"use strict";
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const TYPES = { f4: Float32Array, f8: Float64Array, i4: Int32Array, u1: Uint8Array };
  const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6BB1", "#999933", "#882255"];
  const GREY = "#c9ced6", BLUE = "#0072B2", ORANGE = "#D55E00";
  const LINES = 20, LISTED = 100, WEBGL_FROM = 1500;
  // the library's own bar has a button that uploads the picture: only these buttons are there
  const PLAIN = { responsive: true, displayModeBar: false, plotlyServerURL: "" };
  const TOOLS = { ...PLAIN, displayModeBar: true, displaylogo: false, modeBarButtons: [["lasso2d", "select2d", "zoom2d", "pan2d", "resetScale2d"]] };

  // ---------------------------------------------------------------- what there is

  function decoded({ type, data }) {
    const text = atob(data), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new TYPES[type](bytes.buffer);
  }
  const columns = D.columns.map((c) => ({ ...c, values: decoded(c.values) }));
  const column = (name) => columns.find((c) => c.name === name);
  const track = decoded(D.track);
  const range = (n) => Array.from({ length: n }, (_, i) => i);
  const finite = (values) => Array.from(values).filter(Number.isFinite);
  const extent = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  const short = (v) => (Number.isInteger(v) && Math.abs(v) < 1e15 ? String(v) : Number.isFinite(v) ? String(+v.toPrecision(4)) : "none");
  const shown = (c, row) => (c.kind === "number" ? short(c.values[row]) : c.levels[c.values[row]]);
  const several = D.sections.length > 1;
  const sectionOf = (row) => D.sections.find((s) => row < s.end);
  for (const c of columns) {
    if (c.kind !== "number") continue;
    c.extent = extent(finite(c.values));
    c.whole = finite(c.values).every(Number.isInteger);
    // wide and positive: told by powers of ten
    c.log = c.extent[0] > 0 && c.extent[1] / c.extent[0] > 50 && !c.whole;
    c.at = c.log ? Math.log10 : (v) => v;
    c.back = c.log ? (v) => 10 ** v : (v) => v;
  }
  const letters = (c) => c.levels.reduce((n, level) => n + level.length, 0);
  const called = columns.filter((c) => c.kind === "name").sort((a, b) => letters(a) - letters(b))[0];
  const missing = (c, row) => (c.kind === "number" ? Number.isNaN(c.values[row]) : c.levels[c.values[row]] === "");
  function nameOf(row) {
    const told = ["member", "epoch"].map(column).filter(Boolean).map((c) => `${c.name} ${shown(c, row)}`);
    if (called) told.push(shown(called, row));
    const file = column("file");
    return (file ? `${shown(file, row)}: ` : "") + (told.join(", ") || `row ${row}`);
  }
  const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
  const hover = range(D.rows).map((row) =>
    [`<b>${escaped(nameOf(row))}</b>`]
      .concat(columns.filter((c) => c !== called && !["member", "epoch", "file"].includes(c.name) && !missing(c, row))
        .slice(0, 16).map((c) => `${escaped(c.name)}: ${escaped(shown(c, row).slice(0, 40))}`))
      .join("<br>"));

  // ---------------------------------------------------------------- what is chosen

  const constraints = new Map(), pictures = new Set();
  let chosen = null;
  function constrain(key, label, mask, forget) {
    if (mask) constraints.set(key, { label, mask, forget });
    else constraints.delete(key);
    chosen = null;
    for (const { mask } of constraints.values()) {
      chosen = chosen ? chosen.map((v, i) => v & mask[i]) : mask.slice();
    }
    tell();
    for (const update of pictures) update();
  }
  function release(key) {
    const { forget } = constraints.get(key) || {};
    if (forget) forget();
    constrain(key, "", null);
  }
  const isChosen = (row) => !chosen || chosen[row];
  const chosenRows = (from = 0, to = D.rows) => range(to - from).map((i) => i + from).filter(isChosen);
  const maskOf = (rows) => {
    const mask = new Uint8Array(D.rows);
    for (const row of rows) mask[row] = 1;
    return mask;
  };

  // ---------------------------------------------------------------- elements

  function make(tag, about = {}, ...inside) {
    const { on = {}, ...rest } = about, node = document.createElement(tag);
    for (const [name, value] of Object.entries(rest)) {
      if (name in node && name !== "role") node[name] = value;
      else node.setAttribute(name, value);
    }
    for (const [name, does] of Object.entries(on)) node.addEventListener(name, does);
    node.append(...inside.filter((x) => x !== null && x !== undefined));
    return node;
  }
  const heading = (title, text) => make("div", {}, make("h2", { textContent: title }), make("p", { className: "soft", textContent: text }));

  function csv(name, table) {
    const cell = (v) => (typeof v === "string" ? `"${v.replace(/"/g, '""')}"` : Number.isNaN(v) || v === null || v === undefined ? "" : String(v));
    const link = make("a", { className: "csv", href: "#", textContent: "CSV", download: `${name.replace(/[^\w.-]+/g, "_")}.csv` });
    link.setAttribute("aria-label", `numbers of ${name} as CSV`);
    link.addEventListener("click", () => {
      const all = table(), names = Object.keys(all), count = names.length ? all[names[0]].length : 0;
      const lines = range(count).map((i) => names.map((n) => cell(all[n][i])).join(","));
      const text = [names.map(cell).join(","), ...lines].join("\n") + "\n";
      if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
      link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    });
    return link;
  }
  const values = (c, rows) => rows.map((row) => (c.kind === "number" ? c.values[row] : c.levels[c.values[row]]));
  const known = (rows) => Object.fromEntries(columns.map((c) => [c.name, values(c, rows)]));

  // pictures are drawn when they come near the window, and from then on follow the choice
  const coming = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) {
        coming.unobserve(target);
        target.draw();
        pictures.add(target.update);
      }
    }
  }, { rootMargin: "300px" });
  function picture(className, label, draw, update) {
    const gd = make("div", { className });
    gd.setAttribute("role", "img");
    gd.setAttribute("aria-label", label);
    gd.draw = () => draw(gd);
    gd.update = () => update(gd);
    coming.observe(gd);
    return gd;
  }
  function forgetAll(inside) {
    for (const gd of inside.querySelectorAll("[role=img]")) {
      coming.unobserve(gd);
      pictures.delete(gd.update);
      if (gd.data) Plotly.purge(gd);
    }
  }
  const layout = (more = {}) => ({
    margin: { l: 46, r: 10, t: 8, b: 34 }, showlegend: false, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    font: { family: "system-ui, sans-serif", size: 11, color: "#1b1f24" }, hoverlabel: { align: "left" },
    ...more,
  });
  const axis = (title, more = {}) => ({ title: { text: title, standoff: 6 }, gridcolor: "#eceff3", zerolinecolor: "#d8dde3", automargin: true, ...more });

  // ---------------------------------------------------------------- the bar

  const count = make("span", { className: "count", "aria-live": "polite" });
  const chips = make("span", { className: "chips" });
  function tell() {
    const n = chosen ? chosen.reduce((a, b) => a + b, 0) : D.rows;
    count.textContent = chosen ? `${n} of ${D.rows} chosen` : `all ${D.rows} checkpoints`;
    chips.replaceChildren(...[...constraints].map(([key, { label }]) =>
      make("button", { className: "chip", textContent: `${label} ✕`, title: "no longer choose by this", on: { click: () => release(key) } })));
    if (constraints.size) {
      chips.append(make("button", { textContent: "choose all", on: { click: () => [...constraints.keys()].forEach(release) } }));
    }
  }
  function select(options, value, change, label) {
    const node = make("select", { on: { change: () => change(node.value) } });
    node.setAttribute("aria-label", label);
    for (const [v, text] of options) node.append(make("option", { value: v, textContent: text }));
    node.value = value;
    return node;
  }
  const colored = columns.filter((c) => c.kind !== "name");
  let color = null;
  // of the columns that an architecture has values of, the one that it is likely to be looked at by
  function colorsOf({ start, end }) {
    const own = colored.filter((c) => range(end - start).some((i) => !missing(c, i + start)));
    const guess = own.find((c) => c.name === color) || own.find((c) => /test_acc/.test(c.name)) || own.find((c) => /acc|score|label|loss/.test(c.name)) ||
      own.find((c) => c.name === "norm of weights") || own[0];
    color = guess ? guess.name : null;
    colors.replaceChildren(...(color ? ["colour", select(own.map((c) => [c.name, c.name]), color, (v) => { color = v; recolored.forEach((f) => f()); }, "colour of the members")] : []));
  }
  const manyTracks = new Set(track).size;
  const moving = manyTracks < D.rows;
  let paths = moving ? (manyTracks <= 200 ? "all" : "chosen") : "none";
  const recolored = new Set(), colors = make("label");
  const bar = make("div", { className: "bar" }, count,
    colors,
    moving ? make("label", {}, "paths over epochs", select([["none", "none"], ["chosen", "of chosen members"], ["all", "of all"]], paths, (v) => { paths = v; recolored.forEach((f) => f()); }, "paths over epochs")) : null,
    chips);

  // ---------------------------------------------------------------- maps

  const webgl = (() => {
    try { return Boolean(document.createElement("canvas").getContext("webgl")); } catch { return false; }
  })();
  function paint(rows) {
    const c = column(color);
    if (!c) return { color: BLUE };
    if (c.kind !== "number") return { color: rows.map((row) => COLORS[c.values[row] % COLORS.length]) };
    const [low, high] = c.extent.map(c.at), bar = { orientation: "h", thickness: 9, len: 0.96, y: 1.01, yanchor: "bottom", outlinewidth: 0, tickfont: { size: 10 } };
    if (c.log) {
      bar.tickvals = range(Math.floor(high) - Math.ceil(low) + 1).map((i) => i + Math.ceil(low));
      bar.ticktext = bar.tickvals.map((v) => short(10 ** v));
    }
    return { color: rows.map((row) => c.at(c.values[row])), colorscale: "Viridis", cmin: low, cmax: high > low ? high : low + 1, showscale: true, colorbar: bar };
  }
  function legend(node) {
    const c = column(color);
    node.replaceChildren(...(c && c.kind !== "number" ? c.levels.map((level, i) => {
      const dot = make("i");
      dot.style.background = COLORS[i % COLORS.length];
      return make("span", {}, dot, level === "" ? "none" : level);
    }) : [`colour: ${color || "none"}`]));
  }
  function mapPicture(section, first, number) {
    const rows = range(section.end - section.start).map((i) => i + section.start), order = pathOrder(rows);
    let map = section.maps[Math.min(first, section.maps.length - 1)], x = decoded(map.x), y = decoded(map.y);
    const key = `map ${number}`, keys = make("div", { className: "legend" });
    const share = (i) => (map.shares[i] === undefined ? "" : `, ${map.shares[i] < 0.001 ? "< 0.1" : (100 * map.shares[i]).toFixed(1)} % of variance`);
    const titles = () => (map.name.startsWith("PCA") ? ["component 1", "component 2"] : ["", ""]);
    function line() {
      const of = paths === "none" ? () => false : paths === "all" ? () => true : ((set) => (row) => set.has(track[row]))(new Set(chosen ? chosenRows(section.start, section.end).map((r) => track[r]) : []));
      const px = [], py = [];
      let last = null;
      for (const i of order) {
        const row = i + section.start;
        if (!of(row)) continue;
        if (last !== null && track[row] !== last) { px.push(NaN); py.push(NaN); }
        px.push(x[i]); py.push(y[i]);
        last = track[row];
      }
      return { x: px, y: py };
    }
    let ours = false; // what the library says of a change that was made here is no choice
    const indices = () => (chosen ? chosenRows(section.start, section.end).map((row) => row - section.start) : null);
    function draw(gd) {
      const type = webgl && rows.length > WEBGL_FROM ? "scattergl" : "scatter", [a, b] = titles();
      const points = { type, mode: "markers", x, y, text: hover.slice(section.start, section.end), hovertemplate: "%{text}<extra></extra>",
        marker: { size: rows.length > 3000 ? 4 : 6, opacity: 0.85, ...paint(rows) }, selectedpoints: indices(),
        selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.07 } } };
      const trails = { type, mode: "lines", ...line(), hoverinfo: "skip", line: { color: "rgba(60,70,80,.28)", width: 1 } };
      Plotly.newPlot(gd, [points, trails], layout({
        dragmode: "lasso", hovermode: "closest", margin: { l: 46, r: 10, t: 34, b: 38 },
        xaxis: axis(a + share(0), { automargin: false }), yaxis: axis(b + share(1), { automargin: false }) }),
      TOOLS);
      gd.on("plotly_selected", (event) => {
        if (ours || !event || !event.points) return;
        const own = event.points.filter((p) => p.curveNumber === 0).map((p) => p.pointNumber + section.start);
        constrain(key, `${own.length} in ${map.name}`, maskOf(own));
      });
      gd.on("plotly_deselect", () => { if (!ours) constrain(key, "", null); });
      legend(keys);
    }
    function update(gd) {
      // an outline that stays would choose its own points again whenever the picture is drawn
      ours = true;
      Plotly.update(gd, { selectedpoints: [indices()] }, { selections: [] }, [0]).then(() => { ours = false; });
      if (paths === "chosen") { const { x, y } = line(); Plotly.restyle(gd, { x: [x], y: [y] }, [1]); }
    }
    const gd = picture("map", `${map.name}: a point for every checkpoint`, draw, update);
    recolored.add(() => { if (gd.isConnected && gd.data) draw(gd); });
    const choice = select(section.maps.map((m, i) => [i, m.name]), section.maps.indexOf(map), (v) => {
      map = section.maps[v]; x = decoded(map.x); y = decoded(map.y);
      if (constraints.has(key)) constrain(key, "", null);
      if (gd.data) draw(gd);
    }, `map ${number}`);
    const table = () => ({ x: Array.from(x), y: Array.from(y), ...known(rows) });
    return make("div", { className: "card" }, make("div", { className: "head" }, choice, csv(`map ${number} ${section.name}`, table)), gd, keys);
  }
  function pathOrder(rows) {
    const start = rows[0];
    return rows.map((row) => row - start).sort((a, b) => track[a + start] - track[b + start] || a - b);
  }

  // ---------------------------------------------------------------- columns

  function histogram(c) {
    const number = c.kind === "number", [low, width, bins] = binned(c);
    const high = low + width * bins;
    const at = (row) => {
      const v = number ? c.at(c.values[row]) : c.values[row];
      return Number.isFinite(v) ? Math.min(bins - 1, Math.max(0, Math.floor((v - low) / width))) : -1;
    };
    const place = range(D.rows).map(at), all = counted(() => true), key = `column ${c.name}`;
    function counted(of) {
      const n = new Array(bins).fill(0);
      for (let row = 0; row < D.rows; row++) if (place[row] >= 0 && of(row)) n[place[row]]++;
      return n;
    }
    const centres = range(bins).map((i) => low + (i + 0.5) * width);
    const told = (i) => (number && c.whole && width === 1 ? short(low + i + 0.5) : number ? `${short(c.back(low + i * width))} to ${short(c.back(low + (i + 1) * width))}` : c.levels[i] || "none");
    function choose(a, b) {
      const inside = (row) => { const v = number ? c.values[row] : c.values[row]; return v >= a && v <= b; };
      const rows = range(D.rows).filter(inside);
      const text = number ? `${short(Math.max(a, c.extent[0]))} to ${short(Math.min(b, c.extent[1]))}` : c.levels.filter((_, i) => i >= a && i <= b).join(", ") || "none";
      constrain(key, `${c.name}: ${text}`, maskOf(rows), forget);
    }
    let gd = null;
    function forget() {
      inputs.forEach((input) => { input.value = ""; });
      if (gd.data) Plotly.relayout(gd, { selections: [] });
    }
    function draw(gd) {
      const x = number && !c.log ? axis("", { nticks: 5, ...(Math.abs(high) >= 1e4 ? { tickformat: "~s" } : {}) }) : axis("", ticks(c, low, high));
      const bars = (y, color) => ({ type: "bar", x: centres, y, width, marker: { color }, customdata: range(bins).map(told), hovertemplate: "%{customdata}: %{y}<extra></extra>",
        selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 1 } } });
      Plotly.newPlot(gd, [bars(all, GREY), bars(counted(isChosen), BLUE)],
        layout({ barmode: "overlay", bargap: 0, dragmode: "select", selectdirection: "h", hovermode: "closest", margin: { l: 36, r: 8, t: 6, b: 24 }, xaxis: { ...x, range: [low - width / 2, high + width / 2] }, yaxis: axis("", { rangemode: "tozero", nticks: 4 }) }), PLAIN);
      gd.on("plotly_selected", (event) => {
        if (!event || !event.range) return;
        const [a, b] = event.range.x.map((v) => (number ? c.back(v) : v));
        choose(Math.min(a, b), Math.max(a, b));
      });
      gd.on("plotly_deselect", () => constrain(key, "", null));
    }
    const update = (gd) => Plotly.restyle(gd, { y: [counted(isChosen)] }, [1]);
    gd = picture("hist", `histogram of ${c.name}`, draw, update);
    const typed = () => {
      const [a, b] = inputs.map((input) => input.value);
      if (a === "" && b === "") return constraints.has(key) ? release(key) : null;
      if (!number) return choose(+a, +a);
      return choose(a === "" ? -Infinity : +a, b === "" ? Infinity : +b);
    };
    const inputs = number
      ? ["from", "to"].map((word) => make("input", { type: "number", step: "any", placeholder: word, "aria-label": `${c.name} ${word}`, on: { change: typed } }))
      : [select([["", "any"], ...c.levels.map((level, i) => [i, level || "none"])], "", typed, c.name)];
    const table = () => ({ low: range(bins).map((i) => (number ? c.back(low + i * width) : c.levels[i])), high: range(bins).map((i) => (number ? c.back(low + (i + 1) * width) : c.levels[i])), all, chosen: counted(isChosen) });
    return make("div", { className: "card" }, make("div", { className: "head" }, make("h3", { textContent: c.name }), csv(`column ${c.name}`, table)), gd, make("div", { className: "filter" }, ...inputs));
  }
  // where bins begin, how wide they are and how many: of whole numbers, so many in each
  function binned(c) {
    if (c.kind !== "number") return [-0.5, 1, c.levels.length];
    const [low, high] = c.extent.map(c.at);
    if (!Number.isFinite(low)) return [0, 1, 1];
    if (!c.whole) return [low, (high - low) / 30 || 1, 30];
    const width = Math.ceil((high - low + 1) / 32);
    return [low - 0.5, width, Math.ceil((high - low + 1) / width)];
  }
  function ticks(c, low, high) {
    if (c.kind !== "number") return { tickvals: range(c.levels.length), ticktext: c.levels.map((l) => (l === "" ? "none" : l.length > 14 ? l.slice(0, 12) + "…" : l)) };
    const from = Math.ceil(low), to = Math.floor(high);
    const at = to > from ? range(to - from + 1).map((i) => i + from) : [low, high];
    return { tickvals: at, ticktext: at.map((v) => short(10 ** v)) };
  }

  // ---------------------------------------------------------------- rows

  function members() {
    let by = null, up = true;
    const box = make("div", { className: "scroll", tabIndex: 0 }), told = make("p", { className: "soft" });
    box.setAttribute("aria-label", "table of chosen checkpoints");
    function fill() {
      const rows = chosenRows();
      if (by) {
        const value = (row) => (by.kind === "number" ? by.values[row] : by.levels[by.values[row]]);
        rows.sort((a, b) => (up ? 1 : -1) * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : a - b));
      }
      told.textContent = rows.length > LISTED ? `The first ${LISTED} of ${rows.length}; the CSV has all.` : `${rows.length} checkpoint${rows.length === 1 ? "" : "s"}.`;
      const heads = columns.map((c) => make("th", {}, make("button", { textContent: c.name + (by === c ? (up ? " ▲" : " ▼") : ""), on: { click: () => { up = by === c ? !up : true; by = c; fill(); } } })));
      const lines = rows.slice(0, LISTED).map((row) => make("tr", {},
        make("td", {}, make("button", { textContent: nameOf(row), title: "choose this checkpoint alone", on: { click: () => constrain("row", nameOf(row), maskOf([row])) } })),
        ...columns.map((c) => make("td", { textContent: shown(c, row) }))));
      box.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, make("th", { textContent: "checkpoint" }), ...heads)), make("tbody", {}, ...lines)));
    }
    pictures.add(fill);
    fill();
    return make("div", { className: "card" }, make("div", { className: "head" }, told, csv("checkpoints", () => known(chosenRows()))), box);
  }

  // ---------------------------------------------------------------- tensors

  const quantile = (sorted, p) => {
    const at = p * (sorted.length - 1), i = Math.floor(at), j = Math.ceil(at);
    return sorted[i] + (sorted[j] - sorted[i]) * (at - i);
  };
  function curves(section, tensor, what) {
    const detailed = decoded(section.detailed), own = decoded(tensor[what]), n = detailed.length;
    const xs = what === "quantiles" ? section.levels : range(tensor.count).map((i) => i + 1), L = xs.length;
    const sorted = range(L).map((l) => finite(range(n).map((i) => own[i * L + l])).sort((a, b) => a - b));
    const band = (p) => sorted.map((s) => (s.length ? quantile(s, p) : NaN));
    const [low, middle, high] = [0.05, 0.5, 0.95].map(band);
    const picked = () => {
      if (!chosen) return [];
      const of = new Set(chosenRows(section.start, section.end).map((row) => track[row]));
      return range(n).filter((i) => of.has(track[detailed[i] + section.start]));
    };
    function lines() {
      const x = [], y = [], text = [];
      for (const i of picked().slice(0, LINES)) {
        for (let l = 0; l < L; l++) { x.push(xs[l]); y.push(own[i * L + l]); text.push(nameOf(detailed[i] + section.start)); }
        x.push(NaN); y.push(NaN); text.push("");
      }
      return { x, y, text };
    }
    function draw(gd) {
      const plain = { type: "scatter", mode: "lines", x: xs, hoverinfo: "skip" };
      Plotly.newPlot(gd, [
        { ...plain, y: low, line: { width: 0 } },
        { ...plain, y: high, line: { width: 0 }, fill: "tonexty", fillcolor: "rgba(0,114,178,.18)" },
        { ...plain, y: middle, line: { color: BLUE, width: 1.5 }, hoverinfo: "x+y" },
        { type: "scatter", mode: L > 1 ? "lines" : "markers", ...lines(), line: { color: ORANGE, width: 1.2 }, marker: { color: ORANGE }, hovertemplate: "%{text}: %{y:.4g}<extra></extra>" },
      ], layout({ hovermode: "closest", margin: { l: 44, r: 8, t: 4, b: 36 }, xaxis: axis(what === "quantiles" ? "share of the entries below" : "number of the singular value"), yaxis: axis("", what === "quantiles" ? {} : { rangemode: "tozero" }) }), PLAIN);
    }
    const update = (gd) => { const { x, y, text } = lines(); Plotly.restyle(gd, { x: [x], y: [y], text: [text] }, [3]); };
    const title = `${tensor.name}: ${what === "quantiles" ? "entries" : "singular values"}`;
    const table = () => {
      const columns = { [what === "quantiles" ? "level" : "number"]: xs, "5 %": low, "50 %": middle, "95 %": high };
      for (const i of picked()) columns[nameOf(detailed[i] + section.start)] = range(L).map((l) => own[i * L + l]);
      return columns;
    };
    return make("div", { className: "card" }, make("div", { className: "head" }, make("h3", { textContent: title }), csv(title, table)), picture("curve", title, draw, update));
  }

  // ---------------------------------------------------------------- distances

  function matrices(section) {
    const found = section.distances, rows = Array.from(decoded(found.rows), (r) => r + section.start), n = rows.length;
    const both = { before: decoded(found.before), after: decoded(found.after) };
    const top = Math.max(...finite(both.before), ...finite(both.after));
    const order = () => {
      const c = column(color), of = chosen && new Set(chosenRows(section.start, section.end).map((row) => track[row]));
      const kept = range(n).filter((i) => !of || of.has(track[rows[i]]));
      return (kept.length > 1 ? kept : range(n)).sort((a, b) => (c ? c.values[rows[a]] - c.values[rows[b]] : 0) || a - b);
    };
    return ["before", "after"].map((when) => {
      const title = `distances ${when} alignment`;
      const z = (o) => o.map((i) => o.map((j) => both[when][i * n + j]));
      const said = (o) => o.map((i) => o.map((j) => `${nameOf(rows[i])}<br>${nameOf(rows[j])}`));
      function draw(gd) {
        const o = order(), bare = { showticklabels: false, ticks: "", showgrid: false, zeroline: false, constrain: "domain" };
        Plotly.newPlot(gd, [{ type: "heatmap", z: z(o), text: said(o), zmin: 0, zmax: top || 1, colorscale: "Viridis", hovertemplate: "%{text}<br>%{z:.4g}<extra></extra>", colorbar: { thickness: 9, outlinewidth: 0 } }],
          layout({ margin: { l: 10, r: 10, t: 8, b: 10 }, xaxis: bare, yaxis: { ...bare, scaleanchor: "x", autorange: "reversed" } }), PLAIN);
      }
      const update = (gd) => { const o = order(); Plotly.restyle(gd, { z: [z(o)], text: [said(o)] }, [0]); };
      const gd = picture("matrix", title, draw, update);
      recolored.add(() => { if (gd.isConnected && gd.data) update(gd); });
      const table = () => ({ a: rows.flatMap((a) => rows.map(() => nameOf(a))), b: rows.flatMap(() => rows.map(nameOf)), distance: Array.from(both[when]) });
      return make("div", { className: "card" }, make("div", { className: "head" }, make("h3", { textContent: title }), csv(title, table)), gd);
    });
  }

  // ---------------------------------------------------------------- structure

  function structure({ graph, spec, name }) {
    const step = 22, { tensors, groups, edges } = graph, letters = (texts) => Math.max(0, ...texts.map((t) => t.length)) * 7.4;
    const left = tensors.map((t) => `${t.name}: ${t.axes}`), right = groups.map((g) => `${g.name} (${g.size})`);
    const a = letters(left) + 12, b = a + 190, width = b + letters(right) + 16, height = step * Math.max(tensors.length, groups.length) + 12;
    const y = (i, n) => ((i + 0.5) * (height - 12)) / Math.max(1, n) + 6;
    const hue = (g) => COLORS[g % COLORS.length];
    const parts = edges.map(([t, g, axis]) => `<line x1="${a}" y1="${y(t, tensors.length)}" x2="${b}" y2="${y(g, groups.length)}" stroke="${hue(g)}" stroke-width="1.6" opacity=".7"><title>${escaped(tensors[t].name)}, axis ${axis}: ${escaped(groups[g].name)}</title></line>`)
      .concat(left.map((text, i) => `<text x="${a - 8}" y="${y(i, tensors.length) + 4}" text-anchor="end">${escaped(text)}</text><circle cx="${a}" cy="${y(i, tensors.length)}" r="3" fill="#1b1f24"/>`))
      .concat(right.map((text, g) => `<circle cx="${b}" cy="${y(g, groups.length)}" r="5" fill="${hue(g)}"/><text x="${b + 10}" y="${y(g, groups.length) + 4}">${escaped(text)}</text>`));
    const box = make("div", { className: "scroll", tabIndex: 0, innerHTML: `<svg role="img" aria-label="tensors and groups" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${parts.join("")}</svg>` });
    const table = () => ({ tensor: edges.map(([t]) => tensors[t].name), axis: edges.map((e) => e[2]), group: edges.map(([, g]) => groups[g].name), size: edges.map(([, g]) => groups[g].size) });
    const words = groups.length ? `${tensors.length} tensors, ${groups.length} groups of units that may be permuted` : "no group: nothing may be permuted";
    return make("div", { className: "card" }, make("div", { className: "head" }, make("h3", { textContent: words }), csv(`structure ${name}`, table)), box,
      make("details", {}, make("summary", { textContent: "the specification as text" }), make("pre", { textContent: spec })));
  }

  // ---------------------------------------------------------------- health

  function health(section) {
    const own = range(section.end - section.start).map((i) => i + section.start), at = (rows) => rows.map((i) => i + section.start);
    const positive = (name) => { const c = column(name); return c ? own.filter((row) => c.values[row] > 0) : []; };
    const found = section.health;
    const sets = [["duplicates", "the same weights", found.duplicates], ["reordered", "the same up to the order of units", found.reordered], ["leaks", "in more than one split", found.leaks]];
    const singles = [["values not finite", "with NaN or infinite weights", positive("values not finite")], ["dead units", "with rows of weights that are all zero", positive("dead units")], ["extreme norm", "whose norm is far from all others", at(found.extreme)]];
    const line = (bad, text, rows, label) => make("p", {}, make("span", { className: bad ? "bad" : "", textContent: text + " " }),
      rows.length ? make("button", { textContent: "choose", on: { click: () => constrain(`health ${label}`, label, maskOf(rows)) } }) : null);
    const parts = singles.map(([label, what, rows]) => line(rows.length, `${rows.length} of ${own.length} checkpoints ${what}.`, rows, label));
    for (const [label, what, of] of sets) {
      const text = label === "leaks" ? `${of.length} of these sets ${what}${of.length ? ": a test that has seen its answers" : ""}.` : `${of.length} sets of checkpoints of several members that are ${what}.`;
      parts.push(line(of.length, text, at(of.flat()), label));
      if (of.length) parts.push(make("ul", { className: "sets" }, ...of.slice(0, 10).map((rows) => make("li", { textContent: at(rows).map((r) => nameOf(r) + (column("split") ? ` (${shown(column("split"), r)})` : "")).join(" = ") })), of.length > 10 ? make("li", { textContent: `and ${of.length - 10} more` }) : null));
    }
    const table = () => {
      const lines = singles.flatMap(([label, , rows]) => rows.map((row) => [label, "", row])).concat(sets.flatMap(([label, , of]) => of.flatMap((rows, i) => at(rows).map((row) => [label, i, row]))));
      return { finding: lines.map((l) => l[0]), set: lines.map((l) => l[1]), checkpoint: lines.map((l) => nameOf(l[2])) };
    };
    return make("div", { className: "card health" }, make("div", { className: "head" }, make("h3", { textContent: "health" }), csv(`health ${section.name}`, table)), ...parts);
  }

  // ---------------------------------------------------------------- the page

  const maps = make("div"), stage = make("div");
  function show(section) {
    colorsOf(section);
    forgetAll(maps);
    forgetAll(stage);
    recolored.clear();
    for (const key of [...constraints.keys()]) if (key.startsWith("map ")) constrain(key, "", null);
    maps.replaceChildren(heading("Maps", "Every point is a checkpoint. Draw around some to choose them everywhere; a double click lets go."),
      make("div", { className: "grid wide" }, ...[0, 1].filter((i) => i < section.maps.length).map((i) => mapPicture(section, mapsFirst(section)[i], i + 1))));
    const spectra = section.tensors.filter((t) => t.count > 1);
    const parts = [heading("Tensors", `Blue: median and the middle 90 % of members, each at its last checkpoint. Orange: the chosen ones, ${LINES} at most.`),
      make("div", { className: "grid small" }, ...section.tensors.map((t) => curves(section, t, "quantiles")), ...spectra.map((t) => curves(section, t, "spectra")))];
    if (section.distances) {
      parts.push(heading("Distances", "Of every pair of members at their last checkpoint, as they are and with the units of one in the order of the other's; in the order of the colour."),
        make("div", { className: "grid wide" }, ...matrices(section)));
    }
    parts.push(heading("Structure", "Which axes of which tensors are permuted together."), structure(section), heading("Health", "What to look at before anything is learned from these weights."), health(section));
    if (section.notes.length) notes.replaceChildren(...section.notes.map((note) => make("li", { textContent: note })));
    else notes.replaceChildren();
    stage.replaceChildren(...parts);
  }
  const mapsFirst = (section) => {
    const aligned = section.maps.findIndex((m) => m.name === "PCA of aligned weights");
    return [0, aligned > 0 ? aligned : 1];
  };
  const notes = make("ul", { className: "notes" });
  function tabs() {
    const list = make("div", { role: "tablist" });
    const buttons = D.sections.map((s, i) => make("button", { role: "tab", textContent: `${s.name} (${s.weights} weights)`, on: {
      click: () => choose(i),
      keydown: (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) { choose((i + step + buttons.length) % buttons.length); buttons[(i + step + buttons.length) % buttons.length].focus(); }
      } } }));
    const choose = (i) => {
      buttons.forEach((button, j) => { button.setAttribute("aria-selected", i === j); button.tabIndex = i === j ? 0 : -1; });
      show(D.sections[i]);
    };
    list.append(...buttons);
    choose(0);
    return list;
  }
  const constant = Object.entries(D.constants).map(([name, value]) => `${name} ${value}`).join(", ");
  const about = `${D.rows} checkpoints of ${manyTracks} members` + (several ? `, ${D.sections.length} architectures` : `, ${D.sections[0].weights} weights each`) + `. wsl ${D.version}.`;
  document.getElementById("page").append(
    make("h1", { textContent: D.title }), make("p", { className: "soft", textContent: about }), constant ? make("p", { className: "soft", textContent: `The same for all: ${constant}.` }) : "", notes, bar);
  const strip = tabs();
  if (several) document.getElementById("page").append(strip);
  document.getElementById("page").append(maps,
    heading("Columns", "Grey: all. Blue: the chosen. Drag over a range, or type it."), make("div", { className: "grid tiny" }, ...columns.filter((c) => c.kind !== "name").map(histogram)),
    heading("Checkpoints", "A name chooses that one alone; a head sorts."), members(), stage);
  tell();
})();
