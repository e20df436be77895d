/* Boards: filters that stand in the address, columns that sort, boxes that choose methods to compare. Without it a board stands in the order of its ranks. */
"use strict";
(function () {
  var box = document.getElementById("filters");
  if (!box) return;
  var sections = Array.from(document.querySelectorAll("section[data-batch]"));
  var rows = Array.from(document.querySelectorAll("tr[data-family]"));
  var keys = [
    ["family", "Family", rows, false], ["wd", "Weight decay", rows, true],
    ["batch", "Batch size", sections, true], ["width", "Width", sections, true]
  ];
  var selects = {};
  function unique(list) { return list.filter(function (v, i) { return list.indexOf(v) === i; }); }
  function read() {
    var state = new URLSearchParams(location.hash.indexOf("=") > 0 ? location.hash.slice(1) : "");
    keys.forEach(function (k) { if (selects[k[0]]) selects[k[0]].value = state.get(k[0]) || ""; });
  }
  function apply() {
    keys.forEach(function (k) {
      k[2].forEach(function (element) { if (k[0] === "family" || k[0] === "batch") element.hidden = false; });
    });
    keys.forEach(function (k) {
      var wanted = selects[k[0]] ? selects[k[0]].value : "";
      if (wanted) k[2].forEach(function (element) { if (element.dataset[k[0]] !== wanted) element.hidden = true; });
    });
  }
  function write() {
    var state = new URLSearchParams();
    keys.forEach(function (k) { if (selects[k[0]] && selects[k[0]].value) state.set(k[0], selects[k[0]].value); });
    history.replaceState(null, "", "#" + state.toString());
    apply();
  }
  keys.forEach(function (k) {
    var values = unique(k[2].map(function (element) { return element.dataset[k[0]]; }));
    if (values.length < 2) return;
    values.sort(function (a, b) { return k[3] ? Number(a) - Number(b) : a < b ? -1 : 1; });
    var label = document.createElement("label"), select = document.createElement("select");
    label.textContent = k[1];
    [""].concat(values).forEach(function (v) {
      var option = document.createElement("option");
      option.value = v;
      option.textContent = v || "all";
      select.append(option);
    });
    select.addEventListener("change", write);
    label.append(select);
    box.append(label);
    selects[k[0]] = select;
  });
  box.hidden = !box.children.length;
  window.addEventListener("hashchange", function () { read(); apply(); });
  read();
  apply();
})();

/* Columns that sort. Rows of equal value keep the order of the ranks; a line starts each group of ties of the column, as it does for the ranks. What has no number stands last. */
(function () {
  function heads(table) {
    var rows = Array.from(table.tHead.rows, function (row) { return Array.from(row.cells).filter(function (c) { return c.scope === "col"; }); });
    return [].concat.apply([], rows);
  }
  function cellAt(row, column) {
    for (var i = 0, at = 0; i < row.cells.length; i++) {
      if (column < at + row.cells[i].colSpan) return row.cells[i].colSpan > 1 ? null : row.cells[i];
      at += row.cells[i].colSpan;
    }
    return null;
  }
  function valueOf(row, column, numeric) {
    var cell = cellAt(row, column);
    if (!cell) return null;
    if (numeric) return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
    var text = cell.textContent.trim(), number = parseFloat(text.replace("▲ ", "").replace("▼ ", "-"));
    return text === "–" || text === "" ? null : text === "≈" ? 0 : isNaN(number) ? text : number;
  }
  function order(a, b) {
    if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
    return typeof a === "number" ? -1 : 1;
  }
  function sort(table, all, columns, column, down) {
    var numeric = all.some(function (row) { var c = cellAt(row, column); return c && c.dataset.v !== undefined; });
    var keyed = all.map(function (row, i) { return { row: row, i: i, v: valueOf(row, column, numeric) }; });
    keyed.sort(function (a, b) {
      if (a.v === null || b.v === null) return (a.v === null) - (b.v === null) || a.i - b.i;
      return (down ? -order(a.v, b.v) : order(a.v, b.v)) || a.i - b.i;
    });
    var body = table.tBodies[0], last = null;
    keyed.forEach(function (k, i) {
      var cell = cellAt(k.row, column), tie = k.v === null ? "none" : cell.dataset.tie || "";
      k.row.classList.toggle("starts", i > 0 && tie !== last);
      last = tie;
      body.append(k.row);
    });
    Array.from(table.tBodies).slice(1).forEach(function (empty) { empty.remove(); });
    columns.forEach(function (head, i) {
      if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", i !== column ? "none" : down ? "descending" : "ascending");
    });
  }
  Array.from(document.querySelectorAll(".boards > table")).forEach(function (table) {
    var columns = heads(table), all = [].concat.apply([], Array.from(table.tBodies, function (b) { return Array.from(b.rows); }));
    columns.forEach(function (head, column) {
      if (head.classList.contains("strip")) return;
      var button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      while (head.firstChild) button.append(head.firstChild);
      head.append(button);
      head.setAttribute("aria-sort", head.classList.contains("rank") ? "ascending" : "none");
      button.addEventListener("click", function () {
        var now = head.getAttribute("aria-sort"), best = head.classList.contains("n") && !head.classList.contains("rank") && !head.classList.contains("setting");
        sort(table, all, columns, column, now === "none" ? best : now === "ascending");
      });
    });
  });
  /* Where a table is no wider than its frame, its head stays at the top of the window, else of the frame. */
  function measure() {
    Array.from(document.querySelectorAll(".table.boards")).forEach(function (frame) {
      frame.classList.remove("fits");
      frame.classList.toggle("fits", frame.scrollWidth <= frame.clientWidth);
    });
  }
  window.addEventListener("resize", measure);
  measure();
})();

/* Boxes: two or more methods of a board, opened on the page that compares them. Their names stand in its address. */
Array.from(document.querySelectorAll("section[data-compare]")).forEach(function (section) {
  "use strict";
  var rows = Array.from(section.querySelectorAll("tr[data-name]")), chosen = [], bar = document.createElement("p"), link = document.createElement("a"), hint = document.createElement("span");
  if (rows.length < 2) return;
  function encode(name) { return encodeURIComponent(name).replace(/~/g, "%7E"); }
  bar.className = "chosen";
  link.className = "button";
  bar.append(link, hint);
  function show() {
    link.hidden = chosen.length < 2;
    link.textContent = "Compare the " + chosen.length + " ticked";
    link.href = section.dataset.compare + "&methods=" + chosen.map(encode).join("~");
    hint.textContent = chosen.length > 1 ? "" : chosen.length ? "Tick one more to compare it with " + chosen[0] + "." : "Tick two or more methods to compare them.";
  }
  rows.forEach(function (row) {
    var label = document.createElement("label"), box = document.createElement("input"), name = row.dataset.name;
    label.className = "tick";
    box.type = "checkbox";
    box.setAttribute("aria-label", "Compare " + name);
    box.addEventListener("change", function () {
      chosen = chosen.filter(function (n) { return n !== name; }).concat(box.checked ? [name] : []);
      show();
    });
    label.append(box);
    row.querySelector("th").prepend(label);
  });
  show();
  section.querySelector(".boards").before(bar);
});
