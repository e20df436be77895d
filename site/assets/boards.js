/* Filters of the boards on a page: family, weight decay, batch size, width. The choice stands in the address. */
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
