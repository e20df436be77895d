/* Search over the site: narrows the list of places as one types. The words stand in the address: #q=group%20norm */
"use strict";
var NB = window.NB || {};
NB.search = function (places) {
  var $ = function (id) { return document.getElementById(id); };
  var field = $("search"), list = $("found"), told = $("count").textContent, MOST = 60;
  var titles = places.map(function (p) { return p[1].toLowerCase(); });
  var texts = places.map(function (p) { return (p[1] + " " + p[3] + " " + p[0]).toLowerCase(); });
  function score(i, words) {
    var sum = 0;
    for (var w = 0; w < words.length; w++) {
      var at = titles[i].indexOf(words[w]);
      if (titles[i] === words[w]) sum += 8;
      else if (at === 0) sum += 4;
      else if (at > 0) sum += 2;
      else if (texts[i].indexOf(words[w]) >= 0) sum += 1;
      else return 0;
    }
    var whole = titles[i].indexOf(words.join(" ")); /* the words in a row, the nearer to the beginning the better */
    return sum + (words.length > 1 && whole >= 0 ? 3 - Math.min(whole, 99) / 50 : 0);
  }
  function show() {
    var words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    var hits = places.map(function (_, i) { return [i, words.length ? score(i, words) : 0]; }).filter(function (h) { return h[1]; });
    hits.sort(function (a, b) { return b[1] - a[1] || a[0] - b[0]; });
    list.textContent = "";
    hits.slice(0, MOST).forEach(function (h) {
      var p = places[h[0]], line = document.createElement("li"), link = document.createElement("a"), name = document.createElement("bdi"), kind = document.createElement("small"), words = document.createElement("p");
      link.href = p[2];
      name.textContent = p[1];
      kind.textContent = " " + p[0];
      words.textContent = p[3].length > 160 ? p[3].slice(0, 160) + "…" : p[3];
      link.append(name);
      line.append(link, kind, words);
      list.append(line);
    });
    list.hidden = !words.length;
    $("all").hidden = Boolean(words.length);
    $("elsewhere").hidden = !words.length;
    $("elsewhere").firstChild.href = "runs.html#q=" + encodeURIComponent(words.join(" "));
    $("count").textContent = !words.length ? told : hits.length ? (hits.length > MOST ? "The first " + MOST + " of " : "") + hits.length + (hits.length === 1 ? " place" : " places") : "Nothing of that name.";
    var q = words.length ? "#q=" + encodeURIComponent(field.value) : "";
    if (q || location.hash.indexOf("#q=") === 0) history.replaceState(null, "", location.pathname + q);
  }
  function read() {
    if (location.hash.indexOf("#q=") !== 0) return;
    try { field.value = decodeURIComponent(location.hash.slice(3)); } catch (error) { field.value = ""; }
  }
  field.addEventListener("input", show);
  window.addEventListener("hashchange", function () { read(); show(); });
  $("controls").hidden = false;
  read();
  show();
};
