// Rows of every section: only those of the chosen device, and of these no more than `data-most` until all are asked for.

const chosenDevice = () => (element("page-device") ? element("page-device").value : "");

// `data-device`: hidden while another device is chosen, empty never; `data-only`: shown only while this one is (empty: none)
function elsewhere(row) {
  const { device: on, only } = row.dataset, device = chosenDevice();
  return only !== undefined ? only !== device : Boolean(on) && device !== "" && on !== device;
}

function arrange(list) {
  const most = Number(list.dataset.most);
  let seen = 0;
  for (const row of list.children) {
    row.hidden = elsewhere(row) || row.dataset.filtered === "yes";
    seen += row.hidden ? 0 : 1;
    row.classList.toggle("later", !row.hidden && list.dataset.open !== "yes" && seen > most);
  }
  offerMore(list, most, seen);
}

function offerMore(list, most, seen) {
  const place = list.closest(".scroll") || list.closest("table") || list;
  let line = list.more;
  place.hidden = seen === 0 && list.children.length > 0;
  if (!line && (seen > most || place.hidden)) {
    line = list.more = document.createElement("p");
    line.className = "quiet rest";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "more";
    button.addEventListener("click", () => {
      list.dataset.open = list.dataset.open === "yes" ? "no" : "yes";
      arrange(list);
    });
    line.append(document.createElement("span"), " ", button);
    place.after(line);
  }
  if (!line) return;
  const open = list.dataset.open === "yes";
  line.hidden = seen <= most && !place.hidden;
  line.lastChild.hidden = place.hidden;
  line.firstChild.textContent = place.hidden ? "None here." : open ? `All ${seen} rows.` : `${most} of ${seen} rows.`;
  line.lastChild.textContent = open ? `Show the first ${most}` : `Show all ${seen}`;
}

const ofDevice = (rows) => {
  const device = chosenDevice();
  return device === "" ? rows : rows.filter((row) => row.on === null || String(row.on) === device);
};

function startRows() {
  const lists = [...document.querySelectorAll("[data-most]")];
  const single = [...document.querySelectorAll("main :is([data-device], [data-only]):not([data-most] > *, option)")];
  const all = () => {
    lists.forEach(arrange);
    single.forEach((part) => { part.hidden = elsewhere(part); });
  };
  all();
  return all;
}
