"use strict";

(() => {
  const CONFIG = {
    responsive: true,
    displaylogo: false,
    displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
    modeBarButtonsToRemove: ["select2d", "lasso2d"],
  };
  const isTouch = matchMedia("(pointer: coarse)").matches;

  /* Colours are written as names of the style sheet, which knows the reader's scheme. */
  const withColours = (value, style) => {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => withColours(item, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withColours(item, style)]));
  };

  const drawAll = () => {
    const style = getComputedStyle(document.documentElement);
    for (const script of document.querySelectorAll("script[data-figure]")) {
      const { data, layout } = withColours(JSON.parse(script.textContent), style);
      if (isTouch) layout.dragmode = false; // a finger on a figure scrolls the page
      Plotly.react(script.dataset.figure, data, layout, CONFIG);
    }
    showCourse();
  };

  const select = document.getElementById("course");
  const showCourse = () => {
    if (!select) return;
    const chart = document.getElementById("courses");
    Plotly.restyle(chart, { visible: chart.data.map((trace) => String(trace.meta) === select.value) });
  };

  const keyOf = (cell, isText) => {
    const key = cell.dataset.key ?? cell.textContent;
    if (key === "-") return null;
    return isText ? key : Number(key);
  };

  /* Cells without a value come last, whichever way the column is sorted. */
  const compare = (a, b, direction) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (typeof a === "string" ? a.localeCompare(b) : a - b);
  };

  const sortBy = (head) => {
    const body = head.closest("table").tBodies[0];
    const isUp = head.getAttribute("aria-sort") !== "ascending";
    const isText = "isText" in head.dataset;
    const keys = new Map([...body.rows].map((row) => [row, keyOf(row.cells[head.cellIndex], isText)]));
    const rows = [...body.rows].sort((r, q) => compare(keys.get(r), keys.get(q), isUp ? 1 : -1));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", isUp ? "ascending" : "descending");
    body.append(...rows);
  };

  for (const head of document.querySelectorAll("table.sortable th")) {
    head.querySelector("button").addEventListener("click", () => sortBy(head));
  }
  if (select) select.addEventListener("change", showCourse);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
})();
