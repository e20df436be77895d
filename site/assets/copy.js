/* Buttons that copy a block of text. */
"use strict";
document.querySelectorAll("button[data-copy]").forEach(function (button) {
  var block = document.getElementById(button.dataset.copy), label = button.textContent;
  function say(text) { button.textContent = text; setTimeout(function () { button.textContent = label; }, 2000); }
  function select() {
    var range = document.createRange(), selection = getSelection();
    range.selectNodeContents(block);
    selection.removeAllRanges();
    selection.addRange(range);
    say("Selected: press Ctrl+C");
  }
  button.hidden = false;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", function () {
    if (!navigator.clipboard) return select();
    navigator.clipboard.writeText(block.textContent).then(function () { say("Copied"); }, select);
  });
});
