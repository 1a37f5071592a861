// One figure over the releases: points, segments, changes; and the same as a table.

function historyPoints(data, series) {
  const at = (column, i) => (Array.isArray(column) ? (column.length ? column[i] : null) : column);
  return Array.from({ length: series.k }, (_, i) => {
    const release = data.releases[series.r.length ? series.r[i] : i];
    const value = at(series.v, i), runs = at(series.n, i);
    const notes = [];
    if (i in series.s) notes.push(`the conditions changed${series.s[i] ? `: ${series.s[i]}` : ""}`);
    for (const [at, ratio, worse, confirmed, reason] of series.c) {
      const sure = confirmed === true ? ", confirmed" : confirmed === false ? ", not confirmed" : "";
      if (at === i) notes.push(`${worse ? "worse" : "better"} since here: ${ratio === null ? "by an unknown factor" : `${ratio.toFixed(3)}×`}${sure}${reason ? ` (${reason})` : ""}`);
    }
    if (i in series.o) notes.push(`not judged: ${series.o[i]}`);
    if (i in series.x) notes.push(series.x[i]);
    return { label: release.label, day: release.day, value, relative: at(series.q, i), runs, notes, segment: i in series.s, open: i in series.o };
  });
}

function historyHover(point, metric, y) {
  const unit = metric.unit ? ` ${plain(metric.unit)}` : "";
  const lines = [`<b>${plain(short(point.label, 60))}</b>`, plain(point.day), `${plain(metric.name)}  <b>${point.value}${unit}</b>`];
  if (point.relative !== null) lines.push(`divided by the reference  <b>${point.relative}</b>`);
  return [...lines, ...(point.runs ? [`${point.runs} runs`] : []), ...point.notes.map((note) => plain(short(note, 90)))].join("<br>");
}

// lines are broken where a segment begins and where there is no value
function historyTraces(points, ys, metric) {
  const x = [], y = [];
  points.forEach((point, i) => {
    if (point.segment) { x.push(i - 0.5); y.push(null); }
    x.push(i); y.push(ys[i]);
  });
  const known = points.map((point, i) => i).filter((i) => ys[i] !== null);
  return [
    { type: "scatter", mode: "lines", x, y, connectgaps: false, hoverinfo: "skip", line: { width: 1.6, color: css("--part") } },
    {
      type: "scatter", mode: "markers", x: known, y: known.map((i) => ys[i]),
      marker: { size: 8, color: css("--part"), symbol: known.map((i) => (points[i].open ? "circle-open" : "circle")), line: { width: known.map((i) => (points[i].open ? 2 : 0)), color: css("--part") } },
      customdata: known.map((i) => historyHover(points[i], metric)), hovertemplate: "%{customdata}<extra></extra>",
    },
  ];
}

function historyMarks(series, points) {
  const rule = (i, colour, dash, width) => ({ type: "line", xref: "x", yref: "paper", x0: i - 0.5, x1: i - 0.5, y0: 0, y1: 1, line: { color: colour, dash, width } });
  const segments = points.flatMap((point, i) => (point.segment ? [rule(i, css("--muted"), "dot", 1.2)] : []));
  const colour = (worse) => css(worse ? "--bad" : "--accent");
  const changes = series.c.map(([at, , worse]) => rule(at, colour(worse), "solid", 2));
  const texts = series.c.map(([at, ratio, worse]) => ({
    xref: "x", yref: "paper", x: at - 0.5, y: 1, yanchor: "bottom", showarrow: false, font: { size: 12, color: colour(worse) },
    text: ratio === null ? "changed" : `<b>${ratio.toFixed(3)}×</b>`,
  }));
  const last = points.length - 1;
  const began = points.flatMap((point, i) => (point.segment && i > last / 8 ? [{
    xref: "x", yref: "paper", x: i - 0.5, y: 0.02, xanchor: "right", yanchor: "bottom", xshift: -3, showarrow: false, font: { size: 11, color: css("--muted") },
    text: plain(short(series.s[i] ? `new ${series.s[i]}` : "new conditions", 26)),
  }] : []));
  return { shapes: [...segments, ...changes], annotations: [...texts, ...began] };
}

function drawHistory(data, box, series, metric, relative) {
  const points = series ? historyPoints(data, series) : [];
  const ys = points.map((point) => (relative ? point.relative : point.value)), narrow = box.clientWidth < NARROW;
  const few = Math.max(1, Math.ceil(points.length / (narrow ? 5 : 12)));
  const at = points.map((_, i) => i).filter((i) => (points.length - 1 - i) % few === 0);
  const name = relative ? `${plain(metric.name)} / reference` : `${plain(metric.name)}${metric.unit ? ` (${plain(metric.unit)})` : ""}`;
  const known = ys.filter((y) => y !== null);
  const range = known.length ? rangeOf([...known, Math.max(...known) * 1.02, Math.min(...known) * 0.98], false, 0.15) : [0, 1];
  const layout = layoutStyle({
    height: narrow ? 320 : 380, margin: { l: narrow ? 52 : 66, r: 16, t: 26, b: 56 }, ...(series ? historyMarks(series, points) : {}),
    xaxis: axisStyle({ title: { text: "release, oldest first" }, range: [-0.6, Math.max(1, points.length) - 0.4], tickmode: "array", tickvals: at, ticktext: at.map((i) => plain(short(points[i].label, narrow ? 8 : 14))), tickangle: 0 }),
    yaxis: axisStyle({ title: { text: name }, range, nticks: 7 }),
  });
  return Plotly.react(box, series ? historyTraces(points, ys, metric) : [], layout, CONFIG);
}

function tellHistory(data, series, metric, who) {
  const body = element("history-table").tBodies[0], points = series ? historyPoints(data, series) : [];
  body.replaceChildren(...points.map((point) => {
    const row = document.createElement("tr"), head = document.createElement("th");
    head.scope = "row";
    head.textContent = point.label;
    row.append(head);
    const value = point.value === null ? "–" : `${point.value}${metric.unit ? ` ${metric.unit}` : ""}`;
    [point.day, value, point.relative === null ? "–" : String(point.relative), point.runs ? String(point.runs) : "–", point.notes.join("; ")].forEach((text, i) => {
      const cell = row.insertCell();
      cell.textContent = text;
      cell.className = i === 4 ? "prose" : i ? "num" : "";
    });
    return row;
  }));
  const said = element("history-said");
  said.textContent = series ? series.why || "" : `${metric.name} of ${who} was not measured in any release.`;
  said.hidden = said.textContent === "";
  const known = points.filter((point) => point.value !== null);
  const ends = known.length ? ` from ${known[0].value} to ${known[known.length - 1].value} ${metric.unit}` : "";
  const marked = points.flatMap((point) => point.notes.filter((note) => note.includes(" since here")).map((note) => `${point.label}: ${note}`));
  element("history-chart").setAttribute("aria-label", `${metric.name} of ${who} over ${points.length} releases${ends}. ${marked.length ? marked.join("; ") : "No change found"}. The table below has every point.`);
}

const hasRelative = (series) => !Array.isArray(series.q) || series.q.length > 0;

function startHistory() {
  const box = element("history-chart");
  if (!box) return null;
  const data = readData("history-data");
  const [variant, metric, device, relative] = ["variant", "metric", "device", "relative"].map((id) => element(`history-${id}`));
  const index = new Map(data.series.map((series, i) => [`${series.w} ${series.m} ${series.d}`, i]));
  const chosen = () => data.series[index.get(`${variant.value} ${metric.value} ${device.value}`)];
  const draw = () => {
    const series = chosen(), named = data.metrics[metric.value];
    relative.disabled = !series || !hasRelative(series);
    const who = data.variants[variant.value] + (data.devices.length > 1 ? ` on ${data.devices[device.value]}` : "");
    tellHistory(data, series, named, who);
    return drawHistory(data, box, series, named, relative.checked && !relative.disabled);
  };
  const choose = (series) => {
    [variant.value, metric.value, device.value] = [series.w, series.m, series.d].map(String);
    relative.checked = hasRelative(series);
    return draw();
  };
  choose(data.series[data.first]);
  for (const control of [variant, metric, device, relative]) control.addEventListener("change", draw);
  variant.form.addEventListener("submit", (event) => event.preventDefault());
  element("history").addEventListener("click", (event) => {
    const link = event.target.closest("[data-series]");
    if (!link) return;
    event.preventDefault();
    choose(data.series[Number(link.dataset.series)]);
    box.scrollIntoView({ block: "center" });
    variant.focus({ preventScroll: true });
  });
  const filter = () => {
    [...device.options].forEach((option) => { option.disabled = option.hidden = elsewhere(option); });
    const left = [...device.options].filter((option) => !option.disabled);
    if (device.selectedOptions[0]?.disabled && left.length) left[0].selected = true;
    return draw();
  };
  return { draw, filter };
}
