/* Filters of claims. Without this script each chip is an anchor that filters by itself; with it, verdict and source go together. */
"use strict";
(function () {
  var box = document.querySelector(".claims-filter");
  if (!box) return;
  var said = document.getElementById("claims-shown"), chosen = { verdict: "", source: "" };
  var links = [].slice.call(box.querySelectorAll("a[data-verdict], a[data-source]"));
  function kind(link) { return link.hasAttribute("data-verdict") ? "verdict" : "source"; }
  function value(link) { return link.getAttribute("data-" + kind(link)); }
  function show() {
    var count = 0, claims = box.querySelectorAll(".claim");
    claims.forEach(function (claim) {
      var fits = (!chosen.verdict || claim.classList.contains("is-" + chosen.verdict)) && (!chosen.source || claim.classList.contains("of-" + chosen.source));
      claim.hidden = !fits;
      if (fits) count += 1;
    });
    box.querySelectorAll("[data-theme]").forEach(function (part) { part.hidden = !part.querySelector(".claim:not([hidden])"); });
    links.forEach(function (link) {
      if (chosen[kind(link)] === value(link)) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    });
    said.textContent = chosen.verdict || chosen.source ? "Showing " + count + " of " + claims.length + " claims." : "";
  }
  function read() {
    var parts = location.hash.slice(1).split("&"), any = false;
    chosen = { verdict: "", source: "" };
    links.forEach(function (link) { if (parts.indexOf("only-" + value(link)) >= 0) { chosen[kind(link)] = value(link); any = true; } });
    show();
    return any;
  }
  function write() {
    var parts = [chosen.verdict, chosen.source].filter(Boolean).map(function (v) { return "only-" + v; });
    history.replaceState(null, "", "#" + (parts.length ? parts.join("&") : "main"));
  }
  box.setAttribute("data-scripted", "");
  links.forEach(function (link) {
    link.addEventListener("click", function (event) {
      event.preventDefault();
      chosen[kind(link)] = chosen[kind(link)] === value(link) ? "" : value(link);
      write();
      show();
    });
  });
  box.querySelector("a[data-all]").addEventListener("click", function (event) {
    event.preventDefault();
    chosen = { verdict: "", source: "" };
    write();
    show();
  });
  window.addEventListener("hashchange", function () {
    var target = document.getElementById(location.hash.slice(1));
    if (!target || target.className === "anchor" || target.closest("[hidden]")) { read(); if (target) target.scrollIntoView(); }
  });
  read();
})();
