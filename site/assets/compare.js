/* Two methods of a board, seed by seed. Every statistic was computed when the site was built; this only shows it. Address: #board=…&methods=<first>~<second>~<more>&metric=…, methods by their names. */
"use strict";
var NB = window.NB || {};
(function () {
  var TURNED = { higher: "lower", lower: "higher" };
  /* What the board's script says of two entries in one metric, first minus second: the numbers stand there once for both orders. */
  function compare(data, a, b, m) {
    var own = {}, pairs = [], forth = data.pairs[a.id + "." + b.id], c = (forth || data.pairs[b.id + "." + a.id] || [])[data.metrics.indexOf(m)], images = {};
    if (!c) return null;
    function side(x, y) { return forth ? x : y; }
    function minus(v) { return v === null || forth ? v : -v; }
    function word(i, from) { var text = data.words[i]; return from ? text : TURNED[text] || text; }
    c[6].forEach(function (i) { images[i[0]] = { a: side(i[1], i[2]), b: side(i[2], i[1]), p: i[3] }; });
    (a.points[m.key] || []).forEach(function (p) { own[p[0]] = p[1]; });
    (b.points[m.key] || []).forEach(function (p) { if (p[0] in own) pairs.push({ seed: p[0], a: own[p[0]], b: p[1], images: images[p[0]] }); });
    return { pairs: pairs, mean: minus(c[0]), low: minus(side(c[1], c[2])), high: minus(side(c[2], c[1])), p: c[3], verdict: word(c[4], forth), beyond: c[5] };
  }
  NB.compare = compare;
  /* ---- page ---- */
  var boards = {}, waiting = {}, current = null, wanted = [];
  var $ = function (id) { return document.getElementById(id); };
  NB.board = function (slug, data) { boards[slug] = data; if (waiting[slug]) waiting[slug](); };
  function load(slug, done) {
    if (boards[slug]) return done();
    waiting[slug] = done;
    var script = document.createElement("script");
    script.src = "compare/" + slug + ".js";
    document.head.append(script);
  }
  function options(select, list, value) {
    select.textContent = "";
    list.forEach(function (item) {
      var option = document.createElement("option");
      option.value = item[0];
      option.textContent = item[1];
      select.append(option);
    });
    if (list.some(function (item) { return item[0] === value; })) select.value = value;
  }
  function cells(row, values, head) {
    values.forEach(function (v, i) {
      var cell = document.createElement(head || i === 0 ? "th" : "td");
      if (head || i === 0) cell.scope = head ? "col" : "row";
      if (i > 0) cell.className = "n";
      cell.textContent = v;
      row.append(cell);
    });
  }
  function fill(table, head, rows) {
    table.tHead.textContent = "";
    table.tBodies[0].textContent = "";
    cells(table.tHead.insertRow(), head, true);
    rows.forEach(function (r) { cells(table.tBodies[0].insertRow(), r, false); });
  }
  function signed(v, m) { return v === null ? "–" : (v > 0 ? "+" : v < 0 ? "−" : "") + Math.abs(v * (m.share ? 100 : 1)).toFixed(2); }
  function plain(v, m) { return (v * (m.share ? 100 : 1)).toFixed(2); }
  function small(p) { return p === null || p === undefined ? "–" : p < 0.001 ? p.toExponential(1) : p.toFixed(3); }
  function unit(m) { return m.share ? " percentage points" : ""; }
  function picture(c, m) {
    var box = $("picture"), ns = "http://www.w3.org/2000/svg";
    box.textContent = "";
    if (!c.pairs.length) return;
    var values = c.pairs.map(function (p) { return p.a - p.b; }).concat(c.low === null ? [] : [c.low, c.high], [0]);
    var low = Math.min.apply(null, values), high = Math.max.apply(null, values), pad = (high - low || 0.01) * 0.1;
    low -= pad;
    high += pad;
    function x(v) { return (20 + 460 * (v - low) / (high - low)).toFixed(1); }
    function add(name, attributes, text) {
      var element = document.createElementNS(ns, name);
      Object.keys(attributes).forEach(function (k) { element.setAttribute(k, attributes[k]); });
      if (text) element.textContent = text;
      svg.append(element);
    }
    var svg = document.createElementNS(ns, "svg");
    svg.setAttribute("viewBox", "0 0 500 56");
    svg.setAttribute("class", "pairs");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", "Differences of all seeds, their mean and its interval");
    add("path", { d: "M" + x(0) + " 4V40", "class": "zero" });
    add("text", { x: x(0), y: 53, "text-anchor": "middle" }, "no difference");
    c.pairs.forEach(function (p) { add("circle", { cx: x(p.a - p.b), cy: 22, r: 4, "class": "seed" }); });
    if (c.low !== null) {
      add("path", { d: "M" + x(c.low) + " 22H" + x(c.high), "class": "bar" });
      add("circle", { cx: x(c.mean), cy: 22, r: 5, "class": "mean" });
    }
    box.append(svg);
  }
  function encode(name) { return encodeURIComponent(name).replace(/~/g, "%7E"); }
  function decode(text) { try { return decodeURIComponent(text); } catch (error) { return text; } }
  /* What a name is on this board: the entry of that label, else the only one of that method. */
  function called(name) {
    var entries = boards[current].entries, same = entries.filter(function (e) { return e.norm === name.split(" · ")[0]; });
    return entries.find(function (e) { return e.label === name; }) || (same.length ? same[0] : null);
  }
  function verdict(c, a) { return c.verdict in TURNED ? a.label + " is " + c.verdict : c.verdict[0].toUpperCase() + c.verdict.slice(1); }
  function spread(c, m) { return c.low === null ? "–" : signed(c.low, m) + " to " + signed(c.high, m); }
  function show() {
    var data = boards[current], find = function (id) { return data.entries.find(function (e) { return e.id === id; }); };
    var a = find($("a").value), b = find($("b").value), m = data.metrics.find(function (x) { return x.key === $("metric").value; }), c = compare(data, a, b, m);
    $("result").hidden = false;
    $("pair").textContent = a.label + " and " + b.label + ", " + m.label;
    $("verdict").textContent = c ? verdict(c, a) : "";
    if (c) $("verdict").dataset.verdict = c.verdict;
    var failed = [a, b].filter(function (e) { return e.status; }).map(function (e) { return e.label + ": " + e.status + "."; }).join(" ");
    $("detail").textContent = !c ? "Choose two different methods." : (c.mean === null ? "" : "Mean difference " + signed(c.mean, m) + unit(m) +
      (c.low === null ? ", no interval" : ", interval " + spread(c, m) + ", p = " + small(c.p) + ", both for all pairs of the board at once") + ". " +
      (c.beyond === true ? "It holds for other test images too. " : c.beyond === false ? "It holds on these test images; with others it cannot be told. " : "")) + failed;
    picture(c || { pairs: [] }, m);
    fill($("seeds"), ["Seed", a.label + ", " + m.unit, b.label + ", " + m.unit, "Difference", "Right only in the first", "Right only in the second", "p, McNemar"], (c ? c.pairs : []).map(function (p) {
      var i = p.images;
      return [String(p.seed), plain(p.a, m), plain(p.b, m), signed(p.a - p.b, m), i ? String(i.a) : "–", i ? String(i.b) : "–", i ? small(i.p) : "–"];
    }));
    fill($("all"), ["Measure", "Difference", "Interval", "Seeds in common", "p", "First is"], !c ? [] : data.metrics.map(function (x) {
      var r = compare(data, a, b, x);
      return [x.label + ", " + x.unit, signed(r.mean, x), spread(r, x), String(r.pairs.length), small(r.p), r.verdict];
    }));
    /* Of more than two: each with each, and what is not on this board. */
    var known = wanted.map(called), several = known.filter(function (e, i) { return e && known.indexOf(e) === i; }), pairs = [];
    several.forEach(function (x, i) { several.slice(i + 1).forEach(function (y) { pairs.push([x, y, compare(data, x, y, m)]); }); });
    $("several").hidden = several.length < 3;
    fill($("pairs"), ["First", "Second", "Difference", "Interval", "p", "First is"], pairs.map(function (p) {
      return [p[0].label, p[1].label, signed(p[2].mean, m), spread(p[2], m), small(p[2].p), p[2].verdict];
    }));
    $("missing").textContent = wanted.filter(function (name, i) { return !known[i]; }).map(function (name) { return name + " is not on this board."; }).join(" ");
    history.replaceState(null, "", location.pathname + "#board=" + encode(current) + "&methods=" + wanted.map(encode).join("~") + "&metric=" + encode(m.key));
  }
  function open(slug, metric) {
    load(slug, function () {
      var data = boards[slug], entries = data.entries.map(function (e) { return [e.id, e.label]; });
      current = slug;
      $("board").value = slug;
      var there = wanted.map(called).filter(Boolean), spare = data.entries.filter(function (e) { return there.indexOf(e) < 0; });
      var pair = there.concat(spare);
      pair.forEach(function (e) { if (wanted.length < 2 && wanted.indexOf(e.label) < 0) wanted.push(e.label); });
      options($("a"), entries, pair[0].id);
      options($("b"), entries, (pair.slice(1).find(function (e) { return e !== pair[0]; }) || pair[0]).id);
      options($("metric"), data.metrics.map(function (m) { return [m.key, m.label]; }), metric);
      show();
    });
  }
  function fromAddress() {
    var state = {};
    location.hash.slice(1).split("&").forEach(function (part) { var at = part.indexOf("="); if (at > 0) state[part.slice(0, at)] = part.slice(at + 1); });
    var known = Array.from($("board").options, function (o) { return o.value; }), slug = decode(state.board || "");
    wanted = (state.methods || "").split("~").filter(Boolean).map(decode);
    open(known.indexOf(slug) >= 0 ? slug : known[0], decode(state.metric || ""));
  }
  $("board").addEventListener("change", function () { open(this.value, $("metric").value); });
  ["a", "b"].forEach(function (id) {
    $(id).addEventListener("change", function () {
      wanted = ["a", "b"].map(function (x) { return $(x).options[$(x).selectedIndex].textContent; }).concat(wanted.slice(2));
      show();
    });
  });
  $("metric").addEventListener("change", show);
  window.addEventListener("hashchange", fromAddress);
  $("controls").hidden = false;
  fromAddress();
})();
