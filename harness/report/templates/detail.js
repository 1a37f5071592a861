// All that the page knows of one result, in one place: what the sections say of it is copied here when it is chosen.

// a table's row as terms and values, under the heads of its columns
function asFacts(row) {
  const heads = [...row.closest("table").tHead.rows[0].cells];
  const facts = document.createElement("dl");
  facts.className = "facts";
  [...row.cells].forEach((cell, i) => {
    if (i === 0 || ["", "–"].includes(cell.textContent.trim()) || (row.closest("#results-table") && cell.matches(".prose"))) return;
    const pair = document.createElement("div"), name = document.createElement("dt"), value = document.createElement("dd");
    name.textContent = heads[i].textContent.trim();
    value.append(...[...cell.cloneNode(true).childNodes]);
    pair.append(name, value);
    if (cell.title) {
      const note = document.createElement("small");
      note.textContent = `(${cell.title})`;
      value.append(" ", note);
    }
    facts.append(pair);
  });
  return facts;
}

// rows of one table, as a table
function asTable(rows) {
  const table = rows[0].closest("table"), made = table.cloneNode(false), body = document.createElement("tbody"), box = document.createElement("div");
  body.append(...rows.map((row) => { const copy = row.cloneNode(true); copy.classList.remove("later"); copy.hidden = false; return copy; }));
  made.append(table.tHead.cloneNode(true), body);
  box.className = "scroll";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", `${table.closest(".scroll").getAttribute("aria-label")}: the chosen result`);
  box.append(made);
  return box;
}

// what a section's row becomes: bars stay bars, profiles are opened, any other row is read as facts
function copied(part, fill) {
  if (part.matches("details")) {
    fill(part);
    const table = part.querySelector(".scroll").cloneNode(true);
    table.classList.add("low");
    table.querySelectorAll(".later, [hidden]").forEach((row) => { row.classList.remove("later"); row.hidden = false; });
    return table;
  }
  const table = part.closest("table");
  if (!table.matches(".bars, .gains")) return asFacts(part);
  const made = table.cloneNode(false), body = document.createElement("tbody"), row = part.cloneNode(true);
  row.classList.remove("later", "picked");
  row.hidden = false;
  delete row.dataset.row;
  const key = table.previousElementSibling;
  body.append(row);
  made.append(table.tHead.cloneNode(true), body);
  const box = document.createElement("div");
  if (key && key.matches(".key")) box.append(key.cloneNode(true));
  box.append(made);
  return box;
}

function showParts(index, fill) {
  const out = element("detail-parts"), found = new Map();
  for (const part of document.querySelectorAll(`[data-row="${index}"]`)) {
    const section = part.closest("section.card");
    if (!section || section.id === "detail" || section.id === "pareto" || part.closest("table")?.matches(".files")) continue;
    if (!found.has(section)) found.set(section, []);
    found.get(section).push(part);
  }
  out.replaceChildren();
  const order = [...found].sort(([a], [b]) => (b.id === "table") - (a.id === "table"));
  for (const [section, parts] of order) {
    const box = document.createElement("div"), head = document.createElement("h3");
    box.className = ["resources", "comparison", "why"].includes(section.id) ? "piece wide" : "piece";
    head.textContent = section.id === "table" ? "Its numbers" : section.querySelector("h2").firstChild.textContent.trim();
    const tables = distinct(parts.map((part) => part.closest("table")));
    box.append(head, ...(section.id === "comparison"
      ? tables.map((table) => asTable(parts.filter((part) => part.closest("table") === table)))
      : parts.map((part) => copied(part, fill))));
    out.append(box);
  }
}

function drawDetail(curves, index) {
  const find = (data) => data && data.rows.find((row) => row.index === index);
  const box = element("detail-latency"), row = find(curves.latency);
  const long = element("detail-sustained"), minutes = find(curves.sustained);
  box.closest("figure").hidden = !row;
  long.closest("figure").hidden = !minutes; // both before drawing: a chart is as wide as its place
  if (row) drawOwnLatency(box, row, curves.latency.unit);
  if (minutes) drawOwnMinutes(long, minutes, curves.sustained.kinds[0]);
}

function drawOwnLatency(box, row, unit) {
  const shares = Array.from({ length: 101 }, (_, i) => i), marks = [50, 90, 99];
  box.setAttribute("aria-label", `Latency of ${row.label}: ${marks.map((i) => `${i} % within ${row.quantiles[i]} ${unit}`).join(", ")}.`);
  const line = { type: "scatter", mode: "lines", x: row.quantiles, y: shares, fill: "tozeroy", fillcolor: css("--soft"), line: { width: 2, color: css("--part") }, hovertemplate: `%{y} % within %{x:.3~g} ${plain(unit)}<extra></extra>` };
  const dots = { type: "scatter", mode: "markers+text", x: marks.map((i) => row.quantiles[i]), y: marks, text: marks.map((i) => `p${i}`), textposition: "bottom right", marker: { size: 8, color: css("--part") }, hoverinfo: "skip" };
  return Plotly.react(box, [line, dots], layoutStyle({
    height: 250, margin: { l: 46, r: 12, t: 8, b: 46 }, xaxis: axisStyle({ title: { text: `${plain(unit)} per inference` }, range: rangeOf([row.quantiles[0], row.quantiles[99]], false, 0.12), nticks: 5 }),
    yaxis: axisStyle({ title: { text: "% of inferences" }, range: [0, 103], nticks: 5 }),
  }), CONFIG);
}

function drawOwnMinutes(box, row, kind) {
  const values = row.curves[kind.key];
  box.setAttribute("aria-label", `${kind.name} of ${row.label} over ${row.minutes[row.minutes.length - 1]} minutes of load, from ${values[0]} to ${values[values.length - 1]} ${kind.unit}.`);
  return Plotly.react(box, [{ type: "scatter", mode: "lines", x: row.minutes, y: values, line: { width: 2, color: css("--part") }, hovertemplate: `minute %{x:.3~g}  %{y} ${plain(kind.unit)}<extra></extra>` }], layoutStyle({
    height: 250, margin: { l: 50, r: 12, t: 8, b: 46 }, xaxis: axisStyle({ title: { text: "minutes under load" }, rangemode: "tozero", nticks: 5 }),
    yaxis: axisStyle({ title: { text: `${plain(kind.name)} (${plain(kind.unit)})` }, nticks: 5 }),
  }), CONFIG);
}

function startDetail(fill) {
  const select = element("detail-result");
  if (!select) return null;
  const read = (id) => (element(id) ? readData(id) : null);
  const curves = { latency: read("latency-data"), sustained: read("sustained-data") };
  let seen = false;
  const draw = () => (seen ? drawDetail(curves, Number(select.value)) : null);
  const show = () => {
    seen = true;
    showParts(select.value, fill);
    return draw();
  };
  const first = () => {
    const hidden = [...select.options].filter((option) => { option.hidden = option.disabled = elsewhere(option); return option.hidden; });
    if (hidden.some((option) => option.selected)) {
      const left = [...select.options].filter((option) => !option.hidden);
      const best = left.find((option) => option.dataset.picked) || left[0];
      if (best) best.selected = true;
    }
    if (seen) show();
  };
  select.addEventListener("change", show);
  select.form.addEventListener("submit", (event) => event.preventDefault());
  const open = (index) => {
    select.value = String(index);
    show();
    element("detail-said").textContent = `Shown: ${select.selectedOptions[0].textContent}`;
    element("detail").scrollIntoView();
    select.focus({ preventScroll: true });
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-open]");
    if (!link) return;
    event.preventDefault();
    open(link.dataset.open);
  });
  // drawn when one comes near it, or before it is printed
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    if (!seen) show();
  }, { rootMargin: "600px" }).observe(element("detail"));
  return { draw, show, filter: first, open };
}
