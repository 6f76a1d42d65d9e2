"use strict";
// Sorting of every table that can be sorted; filtering of that of the datasets, and of the map. Without it all is there.
for (const table of document.querySelectorAll("table.sorts")) {
  for (const button of table.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
      const number = head.classList.contains("n");
      const compare = (a, b) => (number ? value(a) - value(b) : value(a).localeCompare(value(b)));
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? -compare(a, b) : compare(a, b)));
      table.tBodies[0].append(...rows);
    });
  }
}

const datasets = document.querySelector("#datasets-table");
if (datasets) {
  const rows = [...datasets.tBodies[0].rows];
  const told = document.querySelector("#told");
  const name = document.querySelector("#name");
  const kind = document.querySelector("#kind");
  const found = document.querySelector("#found");
  const filter = () => {
    const wanted = name.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits =
        row.dataset.name.toLowerCase().includes(wanted) &&
        (!kind.value || row.dataset.kind === kind.value) &&
        (!found.value || row.dataset.found.split(" ").includes(found.value));
      row.hidden = !fits;
      document.getElementById(row.dataset.part).hidden = !fits;
      shown += fits;
    }
    told.textContent = `${shown} of ${rows.length} datasets`;
  };
  name.addEventListener("input", filter);
  for (const field of [kind, found]) field.addEventListener("change", filter);
  filter();
}

const open = () => {
  const part = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (part && part.tagName === "DETAILS") part.open = true;
};
window.addEventListener("hashchange", open);
open();

const map = document.querySelector("#map");
const chosen = document.querySelector("#on-map");
if (map) {
  chosen.addEventListener("change", () => {
    map.classList.toggle("one", chosen.value !== "");
    for (const point of map.querySelectorAll("circle")) point.classList.toggle("on", point.dataset.d === chosen.value);
  });
}
