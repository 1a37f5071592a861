// Each result's latency distribution, from 101 quantiles: ranges one below the other, or cumulative curves.

function rangeTraces(data, rows, group, narrow) {
  const at = rows.map((_, i) => rows.length - 1 - i); // the fastest on top
  const band = (from, to, width, opacity) =>
    group.names.map((name) => {
      const mine = rows.map((row, i) => [row, at[i]]).filter(([row]) => row[group.key] === name);
      return {
        type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false, opacity, line: { width, color: mine.length ? group.colour(mine[0][0]) : "" },
        x: mine.flatMap(([row]) => [row.quantiles[from], row.quantiles[to], null]), y: mine.flatMap(([, y]) => [y, y, null]),
      };
    });
  const median = {
    type: "scatter", mode: "markers", showlegend: false, x: rows.map((row) => row.quantiles[50]), y: at,
    marker: { symbol: "line-ns", size: narrow ? 11 : 15, color: css("--text"), line: { width: 2.5, color: css("--text") } },
    customdata: rows.map((row) => latencyHover(row, data.unit)), hovertemplate: "%{customdata}<extra></extra>",
  };
  return [...band(1, 99, 2, 0.6), ...band(5, 95, 6, 0.35), ...band(25, 75, 11, 0.95), median];
}

function latencyHover(row, unit) {
  const parts = [["median", 50], ["p90", 90], ["p99", 99], ["fastest", 0], ["slowest", 100]];
  const lines = parts.map(([name, i]) => `${name}  <b>${row.quantiles[i]} ${plain(unit)}</b>`);
  const caveats = row.caveats.length ? [`caveats: ${plain(row.caveats.join(", "))}`] : [];
  return [`<b>${plain(row.label)}</b>`, `of the repeats  <b>${plain(row.text)}</b>`, ...lines, ...caveats].join("<br>");
}

function curveTraces(data, rows, group) {
  const shares = Array.from({ length: 101 }, (_, i) => i);
  const dashes = ["solid", "dot", "dash", "dashdot"];
  return rows.map((row) => ({
    type: "scatter", mode: "lines", x: row.quantiles, y: shares, name: plain(row.label), showlegend: false,
    opacity: row.picked ? 1 : 0.7, line: { width: row.picked ? 3 : 1.5, color: row.picked ? css("--accent") : group.colour(row), dash: dashes[distinct(rows.map((r) => r.format)).indexOf(row.format) % 4] },
    hovertemplate: `<b>${plain(row.label).replaceAll("%", "&#37;")}</b><br>%{y} % within %{x:.3~g} ${plain(data.unit)}<extra></extra>`,
  }));
}

function drawLatency(data, box) {
  const curves = element("latency-view").value === "ecdf", log = element("latency-log").checked;
  const all = ofDevice(data.rows), rows = all.slice(0, data.most), group = groupOf(data.rows), narrow = box.clientWidth < NARROW;
  element("latency-key").hidden = curves;
  const left = element("latency-left");
  left.hidden = all.length === rows.length;
  left.textContent = `The fastest ${rows.length} of ${all.length} are drawn; any other is shown as a single result, and the table has them all.`;
  const range = rangeOf(rows.flatMap((r) => (curves ? [r.quantiles[0], r.quantiles[99]] : [r.quantiles[1], r.quantiles[99]])), log, 0.04);
  const step = narrow ? 42 : 25;
  const longest = Math.max(...rows.map((r) => r.label.length));
  const x = axisStyle({
    title: { text: `${plain(data.unit)} per inference` }, type: log ? "log" : "linear", range,
    ...(log ? logTicks(range) : { nticks: narrow ? 5 : 10 }),
  });
  const name = (row) => plain(short(row.label, 42));
  const mark = (row) => (row.picked ? `<b>${name(row)}</b>` : name(row)) + (row.caveats.length ? " *" : "");
  const layout = layoutStyle(curves
    ? { height: narrow ? 340 : 440, margin: { l: 52, r: 12, t: 10, b: 52 }, xaxis: x, yaxis: axisStyle({ title: { text: "% of inferences" }, range: [0, 101], nticks: 6 }) }
    : {
      height: rows.length * step + 70, margin: { l: narrow ? 8 : Math.min(320, longest * 6.8 + 22), r: 12, t: 6, b: 52 }, xaxis: x,
      yaxis: axisStyle({
        range: [-0.7, rows.length - (narrow ? 0.2 : 0.3)], showgrid: false, showline: false, ticks: "", fixedrange: true, automargin: false, showticklabels: !narrow,
        tickmode: "array", tickvals: rows.map((_, i) => rows.length - 1 - i), ticktext: rows.map(mark),
      }),
      annotations: narrow ? rows.map((row, i) => ({
        xref: "paper", yref: "y", x: 0, y: rows.length - 1 - i, xanchor: "left", yshift: 17, showarrow: false, text: mark(row), font: { size: 11, color: css("--muted") },
      })) : [],
    });
  box.setAttribute("aria-label", `Latency of ${rows.length} results, fastest first: ${rows.slice(0, 8).map((r) => `${r.label} ${r.text}`).join("; ")}${rows.length > 8 ? " …" : ""}.`);
  return Plotly.react(box, curves ? curveTraces(data, rows, group) : rangeTraces(data, rows, group, narrow), layout, CONFIG);
}

function startLatency() {
  const box = element("latency-chart");
  if (!box) return null;
  const data = readData("latency-data");
  const draw = () => drawLatency(data, box);
  for (const id of ["latency-view", "latency-log"]) element(id).addEventListener("change", draw);
  return { draw };
}
