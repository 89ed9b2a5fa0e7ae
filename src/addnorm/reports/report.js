"use strict";
// Sorting, and the start of the drawings. Without scripts the table, the answers and still curves remain.

// Numbers by their stored value, not finite ones last; words by the alphabet; a third click restores the stored order.
function sortable(table) {
  const heads = [...table.querySelectorAll("thead th")];
  for (const body of table.tBodies) [...body.rows].forEach((row, i) => { row.dataset.stored = i; });
  const key = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "text") return cell.textContent;
    const value = parseFloat(cell.dataset.value);
    return Number.isFinite(value) ? value : null;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort") || "none"];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next !== "none") head.setAttribute("aria-sort", next);
      for (const body of table.tBodies) {
        const [title, ...rows] = [...body.rows].sort((a, b) => (b.classList.contains("depth") - a.classList.contains("depth")));
        rows.sort((a, b) => {
          if (next === "none") return a.dataset.stored - b.dataset.stored;
          const x = key(a, column, head.dataset.sort), y = key(b, column, head.dataset.sort);
          if (x === null || y === null) return (x === null) - (y === null);
          const order = head.dataset.sort === "text" ? x.localeCompare(y) : x - y;
          return next === "ascending" ? order : -order;
        });
        body.append(title, ...rows);
      }
    });
  });
}

(function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (data.unfinished) setTimeout(() => location.reload(), 15000);
  sortable(document.querySelector(".comparison"));
  new Curves(document.getElementById("curves-live"), data);
  document.documentElement.classList.add("js");
  new Maps(document.getElementById("depth-live"), data);
})();
