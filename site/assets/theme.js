/* Light or dark: the system's choice, until the button is pressed. Runs before the first paint. */
"use strict";
(function () {
  var root = document.documentElement;
  function stored() { try { return localStorage.getItem("normbench-theme"); } catch (error) { return null; } }
  var chosen = stored();
  if (chosen === "light" || chosen === "dark") root.setAttribute("data-theme", chosen);
  document.addEventListener("DOMContentLoaded", function () {
    var button = document.getElementById("theme"), here = document.querySelector("header.site nav a[aria-current]");
    if (here) { /* on a phone the list of pages is wider than the screen */
      var list = here.closest("nav");
      list.scrollLeft += here.getBoundingClientRect().left - list.getBoundingClientRect().left - (list.clientWidth - here.clientWidth) / 2;
    }
    button.hidden = false;
    button.addEventListener("click", function () {
      var dark = getComputedStyle(root).colorScheme.indexOf("dark") >= 0;
      root.setAttribute("data-theme", dark ? "light" : "dark");
      try { localStorage.setItem("normbench-theme", dark ? "light" : "dark"); } catch (error) { /* storage is blocked: the choice lasts for this page */ }
    });
  });
})();
