/* The table of runs: search, filters, columns, sort, pages, CSV. State lives in the address: #method=gn~ln&batch=64&sort=-clean&columns=…&q=…&page=2
   Columns with a file are read when a view needs them. */
"use strict";
var NB = window.NB || {};
NB.runs = function (data) {
  var PAGE = 50, columns = data.columns, byKey = Object.create(null), state, view = [];
  var $ = function (id) { return document.getElementById(id); };
  var table = $("runs"), head = table.tHead.rows[0], body = table.tBodies[0];
  function fill(c, rows) {
    if (c.kind === "category") c.at = rows ? Int32Array.from(rows) : new Int32Array(data.rows); /* without rows there is one value */
    else if (c.kind === "number") c.at = Float64Array.from(rows, function (v) { return v === null ? NaN : v; });
  }
  columns.forEach(function (c) {
    byKey[c.key] = c;
    if (c.kind === "category") c.lower = c.values.map(function (v) { return v.toLowerCase(); });
    if (!c.file) fill(c, c.rows);
  });
  NB.column = function (key, rows) { fill(byKey[key], rows); };
  function missing() {
    var keys = state.columns.concat(Object.keys(state.filters), state.sort.replace(/^-/, "") || []);
    return keys.filter(function (k, i) { return byKey[k].file && !byKey[k].at && keys.indexOf(k) === i; });
  }
  var asked = {};
  function read(keys, done) {
    var left = keys.length;
    keys.forEach(function (k) {
      var element = document.createElement("script"), end = function () { left--; if (!left) done(); };
      if (!asked[k]) asked[k] = [];
      asked[k].push(end);
      if (asked[k].length > 1) return;
      function all() { asked[k].splice(0).forEach(function (f) { f(); }); }
      element.src = "runs/" + byKey[k].file + ".js";
      element.onload = all;
      element.onerror = function () { fill(byKey[k], byKey[k].kind === "number" ? new Float64Array(data.rows).fill(NaN) : null); all(); };
      document.head.append(element);
    });
  }
  function numeric(c) { return c.kind === "number" || (c.kind === "category" && c.numeric); }
  function text(c, row) {
    if (c.kind === "category") return c.values[c.at[row]];
    if (c.kind === "text") return c.values[row];
    return isNaN(c.at[row]) ? "–" : (c.at[row] * c.scale).toFixed(c.digits);
  }
  function initial() {
    return { q: "", sort: "", page: 1, filters: {}, columns: columns.filter(function (c) { return c.shown; }).map(function (c) { return c.key; }) };
  }
  /* ---- address ---- */
  function encode(v) { return encodeURIComponent(v).replace(/~/g, "%7E"); }
  function address() {
    var parts = [], standard = initial().columns.join("~");
    Object.keys(state.filters).forEach(function (k) { parts.push(k + "=" + state.filters[k].map(encode).join("~")); });
    if (state.q) parts.push("q=" + encode(state.q));
    if (state.sort) parts.push("sort=" + encode(state.sort));
    if (state.columns.join("~") !== standard) parts.push("columns=" + state.columns.map(encode).join("~"));
    if (state.page > 1) parts.push("page=" + state.page);
    return parts.length ? "#" + parts.join("&") : "";
  }
  function decode(v) { try { return decodeURIComponent(v); } catch (error) { return v; } }
  function parse(hash) {
    var found = initial();
    hash.replace(/^#/, "").split("&").forEach(function (part) {
      var at = part.indexOf("="), key = part.slice(0, at), raw = part.slice(at + 1);
      if (at < 1) return;
      var list = raw.split("~").map(decode);
      if (key === "q") found.q = decode(raw);
      else if (key === "sort" && byKey[decode(raw).replace(/^-/, "")]) found.sort = decode(raw);
      else if (key === "page") found.page = Math.max(1, parseInt(raw, 10) || 1);
      else if (key === "columns") found.columns = list.filter(function (k) { return byKey[k]; });
      else if (byKey[key] && byKey[key].kind === "category") found.filters[key] = list.filter(function (v) { return byKey[key].values.indexOf(v) >= 0; });
    });
    Object.keys(found.filters).forEach(function (k) { if (!found.filters[k].length) delete found.filters[k]; });
    if (!found.columns.length) found.columns = initial().columns;
    return found;
  }
  /* ---- what is in view ---- */
  function select() {
    var tests = Object.keys(state.filters).map(function (k) {
      var c = byKey[k], wanted = new Uint8Array(c.values.length);
      state.filters[k].forEach(function (v) { wanted[c.values.indexOf(v)] = 1; });
      return { at: c.at, wanted: wanted };
    });
    var words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    var searched = words.map(function (w) {
      return columns.filter(function (c) { return c.kind === "category" && !c.numeric; }).map(function (c) {
        return { at: c.at, hit: Uint8Array.from(c.lower, function (v) { return v.indexOf(w) >= 0 ? 1 : 0; }) };
      });
    });
    var trials = byKey.trial.values;
    view = [];
    rows: for (var row = 0; row < data.rows; row++) {
      for (var i = 0; i < tests.length; i++) if (!tests[i].wanted[tests[i].at[row]]) continue rows;
      for (var w = 0; w < words.length; w++) {
        var hit = searched[w].some(function (s) { return s.hit[s.at[row]]; });
        if (!hit && trials[row].indexOf(words[w]) < 0) continue rows;
      }
      view.push(row);
    }
    if (!state.sort) return;
    var down = state.sort[0] === "-", c = byKey[state.sort.replace(/^-/, "")], sign = down ? -1 : 1, at = c.at;
    if (c.kind === "text") {
      view.sort(function (a, b) { return c.values[a] < c.values[b] ? -sign : c.values[a] > c.values[b] ? sign : a - b; });
      return;
    }
    view = Array.from(ordered(view, at, down));
  }
  /* Radix sort on the bits of doubles: stable, so ties keep their order; missing values last, whichever way. */
  function ordered(rows, at, down) {
    var n = rows.length, doubles = new Float64Array(1), words = new Uint32Array(doubles.buffer), low = new Uint32Array(n), high = new Uint32Array(n), i;
    for (i = 0; i < n; i++) {
      var value = at[rows[i]];
      doubles[0] = value === 0 ? 0 : value; /* no negative zero */
      var flip = words[1] >>> 31 ? 0xffffffff : 0, l = words[0] ^ flip, h = words[1] ^ (flip || 0x80000000);
      low[i] = value !== value ? 0xffffffff : down ? ~l : l;
      high[i] = value !== value ? 0xffffffff : down ? ~h : h;
    }
    var from = Uint32Array.from(rows, function (_, k) { return k; }), to = new Uint32Array(n);
    [[low, 0], [low, 16], [high, 0], [high, 16]].forEach(function (digit) {
      var word = digit[0], shift = digit[1], starts = new Uint32Array(65537), k;
      for (k = 0; k < n; k++) starts[((word[k] >>> shift) & 0xffff) + 1]++;
      for (k = 0; k < 65536; k++) starts[k + 1] += starts[k];
      for (k = 0; k < n; k++) to[starts[(word[from[k]] >>> shift) & 0xffff]++] = from[k];
      var swap = from;
      from = to;
      to = swap;
    });
    return from.map(function (k) { return rows[k]; });
  }
  /* ---- drawing ---- */
  function draw() {
    var shown = state.columns.map(function (k) { return byKey[k]; });
    var pages = Math.max(1, Math.ceil(view.length / PAGE));
    state.page = Math.min(state.page, pages);
    var focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.sort : null;
    head.textContent = "";
    shown.forEach(function (c) {
      var th = document.createElement("th"), button = document.createElement("button");
      var active = state.sort.replace(/^-/, "") === c.key;
      th.scope = "col";
      th.dataset.key = c.key;
      if (numeric(c)) th.className = "n";
      th.setAttribute("aria-sort", active ? (state.sort[0] === "-" ? "descending" : "ascending") : "none");
      button.type = "button";
      button.className = "sort";
      button.dataset.sort = c.key;
      button.textContent = c.label;
      th.append(button);
      head.append(th);
      if (focused === c.key) button.focus();
    });
    body.textContent = "";
    var from = (state.page - 1) * PAGE;
    view.slice(from, from + PAGE).forEach(function (row) {
      var tr = document.createElement("tr");
      shown.forEach(function (c) {
        var td = document.createElement("td"), inner;
        if (numeric(c)) td.className = "n";
        if (c.key === "trial" && data.pages) {
          inner = document.createElement("a");
          inner.href = "trials/" + c.values[row] + ".html";
        } else inner = document.createElement("bdi");
        inner.textContent = text(c, row);
        if (c.key === "status" && inner.textContent !== "ok") td.classList.add("failed");
        td.append(inner);
        tr.append(td);
      });
      body.append(tr);
    });
    $("count").textContent = view.length === data.rows ? data.rows + " runs" : view.length + " of " + data.rows + " runs";
    $("range").textContent = view.length ? (from + 1) + "–" + Math.min(from + PAGE, view.length) + " of " + view.length : "no run matches";
    $("previous").disabled = state.page <= 1;
    $("next").disabled = state.page >= pages;
    document.querySelectorAll("details.menu").forEach(function (menu) {
      var key = menu.dataset.key, on = key === "columns" ? state.columns : state.filters[key] || [];
      menu.querySelectorAll("input[type=checkbox]").forEach(function (box) { box.checked = on.indexOf(box.value) >= 0; });
      menu.querySelector("summary").textContent = menu.dataset.label + (key !== "columns" && on.length ? " (" + on.length + ")" : "");
    });
  }
  function update(keepPage) {
    if (!keepPage) state.page = 1;
    var keys = missing();
    if (keys.length) return read(keys, function () { update(true); });
    select();
    draw();
    history.replaceState(null, "", location.pathname + address());
  }
  /* ---- controls ---- */
  function finder(label, list) {
    var field = document.createElement("input");
    field.type = "search";
    field.autocomplete = "off";
    field.setAttribute("aria-label", "Find in " + label);
    field.placeholder = "Find";
    field.addEventListener("input", function () {
      var wanted = field.value.toLowerCase();
      list.querySelectorAll("label, strong").forEach(function (line) {
        line.hidden = line.tagName === "STRONG" ? Boolean(wanted) : line.textContent.toLowerCase().indexOf(wanted) < 0;
      });
    });
    return field;
  }
  function menu(key, label, options) {
    var details = document.createElement("details"), summary = document.createElement("summary"), list = document.createElement("div");
    details.className = "menu";
    details.dataset.key = key;
    details.dataset.label = label;
    summary.className = "button";
    summary.textContent = label;
    list.className = "options";
    if (options.length > 15) list.append(finder(label, list));
    var group = null;
    options.forEach(function (option) {
      var line = document.createElement("label"), box = document.createElement("input"), name = document.createElement("bdi");
      if (option[2] && option[2] !== group) {
        group = option[2];
        var heading = document.createElement("strong");
        heading.textContent = group;
        list.append(heading);
      }
      box.type = "checkbox";
      box.value = option[0];
      name.textContent = option[1];
      line.append(box, name);
      list.append(line);
    });
    list.addEventListener("change", function (event) {
      var on = Array.from(list.querySelectorAll("input[type=checkbox]:checked"), function (box) { return box.value; });
      if (event.target.type !== "checkbox") return;
      if (key === "columns") state.columns = on.length ? on : [columns[0].key];
      else if (on.length) state.filters[key] = on;
      else delete state.filters[key];
      update();
    });
    details.addEventListener("keydown", function (event) { if (event.key === "Escape") { details.open = false; summary.focus(); } });
    details.append(summary, list);
    $(key === "columns" ? "chooser" : "menus").append(details);
  }
  function csv() {
    var shown = state.columns.map(function (k) { return byKey[k]; });
    function cell(value) {
      if (/^[=+\-@\t\r]/.test(value) && !/^-?\d+(\.\d+)?$/.test(value)) value = "'" + value; /* a spreadsheet would run it as a formula */
      return /[",\r\n]/.test(value) ? '"' + value.replace(/"/g, '""') + '"' : value;
    }
    var lines = [shown.map(function (c) { return cell(c.label); }).join(",")];
    view.forEach(function (row) {
      lines.push(shown.map(function (c) { var t = text(c, row); return cell(t === "–" && c.kind === "number" ? "" : t); }).join(","));
    });
    return lines.join("\r\n") + "\r\n";
  }
  columns.forEach(function (c) {
    if (c.kind === "category" && c.key !== "name" && !c.file && c.values.length > 1) menu(c.key, c.label, c.values.map(function (v) { return [v, v]; }));
  });
  menu("columns", "Columns", columns.map(function (c) { return [c.key, c.label, c.group]; }));
  document.addEventListener("click", function (event) {
    document.querySelectorAll("details.menu[open]").forEach(function (open) { if (!open.contains(event.target)) open.open = false; });
  });
  head.addEventListener("click", function (event) {
    var button = event.target.closest("button");
    if (!button) return;
    var key = button.dataset.sort, down = byKey[key].kind === "number";
    var order = down ? ["-" + key, key, ""] : [key, "-" + key, ""];
    state.sort = order[(order.indexOf(state.sort) + 1) % 3];
    update();
  });
  $("search").addEventListener("input", function () { state.q = this.value; update(); });
  $("previous").addEventListener("click", function () { state.page--; update(true); });
  $("next").addEventListener("click", function () { state.page++; update(true); });
  $("reset").addEventListener("click", function () { state = initial(); $("search").value = ""; update(); });
  $("csv").addEventListener("click", function () {
    var link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "runs.csv";
    link.click();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
  });
  $("copy").addEventListener("click", function () {
    var button = this, done = function () { button.textContent = "Copied"; };
    if (navigator.clipboard) navigator.clipboard.writeText(location.href).then(done, function () { button.textContent = "Copy it from the address bar"; });
    else button.textContent = "Copy it from the address bar";
  });
  window.addEventListener("hashchange", function () { state = parse(location.hash); $("search").value = state.q; update(true); });
  state = parse(location.hash);
  $("search").value = state.q;
  $("controls").hidden = $("more").hidden = false;
  $("more").open = matchMedia("(min-width: 48rem)").matches || Object.keys(state.filters).length > 0;
  $("pager").hidden = false;
  update(true);
};
