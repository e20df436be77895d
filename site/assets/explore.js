/* "Explore": loads the chart library and this chart's specification when it is asked for, and not before. */
"use strict";
var NB = window.NB || {};
(function () {
  var specs = {}, waiting = {}, loading = null;
  NB.chart = function (id, spec) { specs[id] = spec; if (waiting[id]) waiting[id](); };
  function script(src, done) {
    var element = document.createElement("script");
    element.src = src;
    element.onload = done;
    document.head.appendChild(element);
  }
  function library(root, done) {
    if (window.vegaEmbed) return done();
    if (loading) return loading.push(done);
    loading = [done];
    script(root + "assets/vega.js", function () { loading.forEach(function (f) { f(); }); });
  }
  function themed(value, style) {
    /* The specification has literal colours of the light theme; live charts take those of the page. */
    if (typeof value === "string") return Object.prototype.hasOwnProperty.call(NB.colours, value) ? style.getPropertyValue(NB.colours[value]).trim() : value;
    if (Array.isArray(value)) return value.map(function (v) { return themed(v, style); });
    if (value && typeof value === "object") {
      var copy = {};
      Object.keys(value).forEach(function (k) { copy[k] = k === "values" ? value[k] : themed(value[k], style); });
      return copy;
    }
    return value;
  }
  document.querySelectorAll("button[data-explore]").forEach(function (button) {
    var id = button.dataset.explore, root = button.dataset.root;
    button.hidden = false;
    button.addEventListener("click", function () {
      button.disabled = true;
      library(root, function () {
        waiting[id] = function () {
          var target = document.querySelector('[data-chart="' + id + '"]');
          var options = { actions: false, ast: true, defaultStyle: false, renderer: "svg", tooltip: { disableDefaultStyle: true } };
          window.vegaEmbed(target, themed(specs[id], getComputedStyle(document.documentElement)), options).then(function () {
            target.dataset.live = "true";
            button.textContent = "Drag to move, scroll to zoom";
          });
        };
        if (specs[id]) waiting[id](); else script(root + "charts/" + id + ".js");
      });
    });
  });
})();
