/* Two methods of a board, seed by seed: the same arithmetic as benchmark/normbench/board (a test holds them equal). Address: #a=<board>.<entry>&b=<board>.<entry>&metric=… */
"use strict";
var NB = window.NB || {};
(function () {
  var MIN_SEEDS = 3, ALPHA = 0.05, UNDECIDED = "cannot be told apart";
  /* ---- statistics ---- */
  function lgamma(x) {
    var g = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 0.001208650973866179, -0.000005395239384953], y = x, s = 1.000000000190015;
    var t = x + 5.5 - (x + 0.5) * Math.log(x + 5.5);
    g.forEach(function (c) { y += 1; s += c / y; });
    return -t + Math.log(2.5066282746310005 * s / x);
  }
  function betainc(a, b, x) { /* regularized incomplete beta function by its continued fraction (Lentz) */
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - betainc(b, a, 1 - x);
    var front = Math.exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a, f = 1, c = 1, d = 0;
    for (var i = 0; i <= 300; i++) {
      var m = i >> 1, n = i === 0 ? 1 : i % 2 === 0 ? m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)) : -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
      d = 1 / (1 + n * d);
      c = 1 + n / c;
      f *= c * d;
      if (Math.abs(1 - c * d) < 1e-14) break;
    }
    return front * (f - 1);
  }
  function tTail(t, df) { return betainc(df / 2, 0.5, df / (df + t * t)); } /* two-sided */
  function tQuantile(df) {
    var low = 0, high = 1000;
    for (var i = 0; i < 100; i++) { var mid = (low + high) / 2; if (tTail(mid, df) > ALPHA) low = mid; else high = mid; }
    return low;
  }
  function mcnemar(x, y) {
    var n = x + y, sum = 0;
    if (!n) return 1;
    for (var k = 0; k <= Math.min(x, y); k++) sum += Math.exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * Math.LN2);
    return Math.min(1, 2 * sum);
  }
  function discordant(p, q) {
    var x = atob(p), y = atob(q), onlyA = 0, onlyB = 0;
    function bits(v) { var n = 0; while (v) { n += v & 1; v >>= 1; } return n; }
    for (var i = 0; i < x.length; i++) { onlyA += bits(x.charCodeAt(i) & ~y.charCodeAt(i)); onlyB += bits(y.charCodeAt(i) & ~x.charCodeAt(i)); }
    return [onlyA, onlyB];
  }
  function compare(a, b, key) {
    var left = {}, pairs = [];
    (a.points[key] || []).forEach(function (p) { left[p[0]] = p; });
    (b.points[key] || []).forEach(function (p) { if (left[p[0]]) pairs.push({ seed: p[0], a: left[p[0]][1], b: p[1], ta: left[p[0]][2], tb: p[2] }); });
    var n = pairs.length, found = { pairs: pairs, mean: null, low: null, high: null, p: null };
    if (!n) return found;
    found.mean = pairs.reduce(function (s, p) { return s + p.a - p.b; }, 0) / n;
    if (n < MIN_SEEDS) return found;
    var sd = Math.sqrt(pairs.reduce(function (s, p) { return s + Math.pow(p.a - p.b - found.mean, 2); }, 0) / (n - 1));
    if (sd <= 1e-12 * Math.max(1, Math.abs(found.mean))) return found;
    var error = sd / Math.sqrt(n), half = tQuantile(n - 1) * error;
    found.low = found.mean - half;
    found.high = found.mean + half;
    found.p = tTail(Math.abs(found.mean) / error, n - 1);
    return found;
  }
  function holm(values) {
    var order = values.map(function (_, i) { return i; }).sort(function (i, j) { return values[i] - values[j] || i - j; }), running = 0, adjusted = [];
    order.forEach(function (index, position) { running = Math.max(running, (values.length - position) * values[index]); adjusted[index] = Math.min(1, running); });
    return adjusted;
  }
  function verdict(c, p) {
    var n = c.pairs.length;
    if (!n) return UNDECIDED + ": no seed in common";
    if (n < MIN_SEEDS) return UNDECIDED + ": " + n + (n === 1 ? " seed" : " seeds") + " in common, " + MIN_SEEDS + " needed";
    if (p === null || p >= ALPHA) return UNDECIDED;
    return c.mean > 0 ? "higher" : "lower";
  }
  NB.compare = compare;
  NB.verdict = verdict;
  NB.mcnemar = mcnemar;
  NB.holm = holm;
  /* ---- page ---- */
  var boards = {}, waiting = {}, current = null;
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
  function show() {
    var data = boards[current], find = function (id) { return data.entries.find(function (e) { return e.id === id; }); };
    var a = find($("a").value), b = find($("b").value), m = data.metrics.find(function (x) { return x.key === $("metric").value; });
    var c = compare(a, b, m.key), others = data.entries.filter(function (e) { return e.id !== a.id; });
    var ps = others.map(function (e) { return compare(a, e, m.key).p; }), known = ps.filter(function (p) { return p !== null; });
    var adjusted = holm(known), place = ps.slice(0, others.indexOf(b) + 1).filter(function (p) { return p !== null; }).length - 1;
    var pHolm = c.p === null ? null : adjusted[place], text = verdict(c, c.p);
    $("result").hidden = false;
    $("pair").textContent = a.label + " and " + b.label + ", " + m.label;
    $("verdict").textContent = text === "higher" || text === "lower" ? a.label + " is " + text : text[0].toUpperCase() + text.slice(1);
    $("verdict").dataset.verdict = text;
    $("verdict").dataset.adjusted = verdict(c, pHolm);
    var failed = [a, b].filter(function (e) { return e.status; }).map(function (e) { return e.label + ": " + e.status + "."; }).join(" ");
    $("detail").textContent = a.id === b.id ? "Choose two different methods." : (c.mean === null ? "" : "Mean difference " + signed(c.mean, m) + unit(m) +
      (c.low === null ? ", no interval" : ", 95 % interval " + signed(c.low, m) + " to " + signed(c.high, m) + " over " + c.pairs.length + " seeds; p = " + small(c.p) +
      ", adjusted by Holm for all " + known.length + " comparisons with " + a.label + ": p = " + small(pHolm) + " (" + verdict(c, pHolm) + ")") + ". ") + failed;
    picture(c, m);
    fill($("seeds"), ["Seed", a.label + ", " + m.unit, b.label + ", " + m.unit, "Difference", "Right only in the first", "Right only in the second", "p, McNemar"], c.pairs.map(function (p) {
      var x = (data.outcomes[p.ta] || {})[m.key], y = (data.outcomes[p.tb] || {})[m.key], d = x && y && x.length === y.length ? discordant(x, y) : null;
      return [String(p.seed), plain(p.a, m), plain(p.b, m), signed(p.a - p.b, m), d ? String(d[0]) : "–", d ? String(d[1]) : "–", d ? small(mcnemar(d[0], d[1])) : "–"];
    }));
    fill($("all"), ["Measure", "Difference", "95 % interval", "Seeds", "p", "First is"], data.metrics.map(function (x) {
      var r = compare(a, b, x.key);
      return [x.label + ", " + x.unit, signed(r.mean, x), r.low === null ? "–" : signed(r.low, x) + " to " + signed(r.high, x), String(r.pairs.length), small(r.p), verdict(r, r.p)];
    }));
    history.replaceState(null, "", location.pathname + "#a=" + current + "." + a.id + "&b=" + current + "." + b.id + "&metric=" + encodeURIComponent(m.key));
  }
  function open(slug, a, b, metric) {
    load(slug, function () {
      var data = boards[slug], entries = data.entries.map(function (e) { return [e.id, e.label]; });
      current = slug;
      $("board").value = slug;
      options($("a"), entries, a || entries[0][0]);
      options($("b"), entries, b || entries[1][0]);
      options($("metric"), data.metrics.map(function (m) { return [m.key, m.label]; }), metric);
      show();
    });
  }
  function fromAddress() {
    var state = new URLSearchParams(location.hash.slice(1)), a = (state.get("a") || "").split("."), b = (state.get("b") || "").split(".");
    var known = Array.from($("board").options, function (o) { return o.value; });
    var slug = known.indexOf(a[0]) >= 0 ? a[0] : known.indexOf(b[0]) >= 0 ? b[0] : known[0];
    open(slug, a[0] === slug ? a[1] : null, b[0] === slug ? b[1] : null, state.get("metric"));
  }
  $("board").addEventListener("change", function () { open(this.value, null, null, $("metric").value); });
  ["a", "b", "metric"].forEach(function (id) { $(id).addEventListener("change", show); });
  window.addEventListener("hashchange", fromAddress);
  $("controls").hidden = false;
  fromAddress();
})();
