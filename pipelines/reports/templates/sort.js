"use strict";
const body = document.querySelector("#images tbody");
const heads = [...document.querySelectorAll("#images th")];
const key = (row, at) => row.cells[at].dataset.sort ?? row.cells[at].textContent.trim();
heads.forEach((head, at) => head.firstElementChild.addEventListener("click", () => {
  const down = head.getAttribute("aria-sort") === "ascending";
  const order = (a, b) => key(a, at).localeCompare(key(b, at), "en", { numeric: true });
  const rows = [...body.rows].sort((a, b) => (down ? order(b, a) : order(a, b)));
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
}));
