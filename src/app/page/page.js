// Puts in what the relay sends, element by element and only where it differs, so that focus, selection and screen readers are left alone.
"use strict";
const line = document.getElementById("line");
const events = new EventSource("/page/events");
let heard = Date.now();
events.onmessage = (event) => {
  heard = Date.now();
  if (line.textContent) line.textContent = "";
  const sent = new DOMParser().parseFromString(event.data, "text/html");
  for (const fresh of sent.querySelectorAll("[data-live]")) {
    const shown = document.getElementById(fresh.id);
    if (!shown) return location.reload();
    if (shown.className !== fresh.className) shown.className = fresh.className;
    if (shown.innerHTML !== fresh.innerHTML) shown.innerHTML = fresh.innerHTML;
  }
  const worst = document.querySelector(".verdict:not(.good)") || document.querySelector(".verdict");
  if (worst) document.title = worst.textContent + " · Doorbell";
};
setInterval(() => {
  if (Date.now() - heard < 5000 || line.textContent) return;
  line.textContent = "The relay does not answer: what is below is old.";
  document.title = "No answer · Doorbell";
}, 1000);
