// Latency, temperature or clock over the minutes of a sustained run: one line a result.

function drawSustained(data, box) {
  const kind = data.kinds.find((k) => k.key === element("sustained-kind").value) || data.kinds[0];
  const all = ofDevice(data.rows).filter((row) => row.curves[kind.key].some((v) => v !== null));
  const rows = [...all].sort((a, b) => b.picked - a.picked).slice(0, data.most), narrow = box.clientWidth < NARROW;
  const left = element("sustained-left");
  left.hidden = all.length === rows.length;
  left.textContent = `${rows.length} of ${all.length} curves are drawn; any other is shown as a single result.`;
  const dashes = ["solid", "dot", "dash", "dashdot"];
  const traces = rows.map((row, i) => ({
    type: "scatter", mode: "lines", x: row.minutes, y: row.curves[kind.key], name: plain(short(row.label, 42)), connectgaps: false,
    line: { width: row.picked ? 3 : 1.8, color: row.picked ? css("--accent") : seriesColour(i), dash: dashes[Math.floor(i / 8) % 4] },
    hovertemplate: `<b>${plain(row.label).replaceAll("%", "&#37;")}</b><br>minute %{x:.3~g}  <b>%{y} ${plain(kind.unit)}</b><extra></extra>`,
  }));
  const layout = layoutStyle({
    height: narrow ? 340 : 400, margin: { l: 58, r: 12, t: 30, b: 52 }, showlegend: rows.length > 1,
    legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", font: { size: 12 } },
    xaxis: axisStyle({ title: { text: "minutes" }, rangemode: "tozero", nticks: narrow ? 5 : 10 }),
    yaxis: axisStyle({ title: { text: `${plain(kind.name)} (${plain(kind.unit)})` }, nticks: 7 }),
  });
  const ends = rows.slice(0, 8).map((row) => {
    const seen = row.curves[kind.key].filter((v) => v !== null);
    return `${row.label} from ${seen[0]} to ${seen[seen.length - 1]} ${kind.unit}`;
  });
  box.setAttribute("aria-label", `${kind.name} of ${rows.length} results over the minutes of load: ${ends.join("; ")}${rows.length > 8 ? " …" : ""}.`);
  return Plotly.react(box, traces, layout, CONFIG);
}

function startSustained() {
  const box = element("sustained-chart");
  if (!box) return null;
  const data = readData("sustained-data");
  const draw = () => drawSustained(data, box);
  element("sustained-kind").addEventListener("change", draw);
  element("sustained-kind").form.addEventListener("submit", (event) => event.preventDefault());
  return { draw };
}
