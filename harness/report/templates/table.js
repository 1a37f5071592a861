// The table of all results: sort by a click or a key on a heading, filter, choose columns.

function sortTable(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const up = heads[column].getAttribute("aria-sort") !== "ascending";
  const numeric = heads[column].classList.contains("num");
  const key = (row) => row.cells[column].dataset.sort;
  const words = new Intl.Collator(undefined, { numeric: true });
  const compare = (a, b) => (numeric ? Number(a) - Number(b) : words.compare(a, b));
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [left, right] = [key(a), key(b)];
    if (left === "" || right === "") return (left === "") - (right === ""); // what was not measured stays last
    return up ? compare(left, right) : compare(right, left);
  });
  heads.forEach((head, i) => head.setAttribute("aria-sort", i === column ? (up ? "ascending" : "descending") : "none"));
  table.tBodies[0].append(...rows);
  arrange(table.tBodies[0]);
}

function filterTable(table, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of table.tBodies[0].rows) {
    const content = row.textContent.toLowerCase();
    row.dataset.filtered = words.every((word) => content.includes(word)) ? "no" : "yes";
  }
  arrange(table.tBodies[0]);
  countRows(table);
}

function countRows(table) {
  const rows = [...table.tBodies[0].rows], seen = rows.filter((row) => !row.hidden).length;
  element("table-count").textContent = seen === rows.length ? `${seen} results` : `${seen} of ${rows.length} results`;
}

function showColumn(table, column, shown) {
  for (const row of table.rows) row.cells[column].hidden = !shown;
}

function startTable() {
  const table = element("results-table");
  if (!table) return () => {};
  [...table.tHead.rows[0].cells].forEach((head, i) => head.querySelector("button").addEventListener("click", () => sortTable(table, i)));
  element("table-filter").addEventListener("input", (event) => filterTable(table, event.target.value));
  element("table-filter").form.addEventListener("submit", (event) => event.preventDefault());
  const boxes = [...element("table-columns").querySelectorAll("input[data-column]")];
  const apply = (box) => showColumn(table, Number(box.dataset.column), box.checked);
  for (const box of boxes) box.addEventListener("change", () => apply(box));
  const before = boxes.map((box) => box.checked);
  element("table-all").addEventListener("change", (event) => boxes.forEach((box, i) => { box.checked = event.target.checked || before[i]; apply(box); }));
  return () => countRows(table);
}
