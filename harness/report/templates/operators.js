// A large page holds most operator tables as data: their rows are made when one is opened.

function fillOperators(details, data) {
  const rows = data.rows[details.dataset.row];
  if (!rows || details.querySelector(".scroll")) return;
  const box = document.querySelector("#operators .profile .scroll").cloneNode(true), body = box.querySelector("tbody");
  box.setAttribute("aria-label", `Operators of ${details.querySelector("summary bdi").textContent}`);
  body.replaceChildren();
  details.append(box);
  for (const [name, kind, time, share, calls] of rows) {
    const row = body.insertRow();
    row.classList.toggle("inside", kind === data.inside);
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = data.words[name];
    row.append(head);
    row.insertCell().textContent = data.words[kind];
    const spent = row.insertCell();
    spent.textContent = time;
    const bar = document.createElement("span"), inner = document.createElement("i");
    bar.className = "chance";
    bar.setAttribute("aria-hidden", "true");
    inner.style.width = `${Math.min(Math.max(share || 0, 0), 100)}%`;
    bar.append(inner);
    row.insertCell().append(bar, share === null ? " –" : ` ${share.toFixed(1)} %`);
    const count = row.insertCell();
    count.textContent = calls;
    spent.className = count.className = "num";
  }
}

function startOperators() {
  if (!element("operators-data")) return () => {};
  const data = readData("operators-data");
  const fill = (details) => fillOperators(details, data);
  document.querySelectorAll("#operators details.profile").forEach((details) => details.addEventListener("toggle", () => fill(details)));
  return fill;
}
