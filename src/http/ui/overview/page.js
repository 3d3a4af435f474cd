// Changes only what differs, so that focus, selection and screen readers are not disturbed; and
// shows the values of charts under the pointer, or by arrow keys.
"use strict";
const morph = (shown, fresh) => {
  if (shown.nodeName !== fresh.nodeName) return shown.replaceWith(fresh.cloneNode(true));
  if (shown.nodeType === Node.TEXT_NODE) {
    if (shown.data !== fresh.data) shown.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  for (const { name } of [...shown.attributes]) if (!fresh.hasAttribute(name)) shown.removeAttribute(name);
  const [before, after] = [[...shown.childNodes], [...fresh.childNodes]];
  after.forEach((child, at) => (at < before.length ? morph(before[at], child) : shown.append(child.cloneNode(true))));
  for (const child of before.slice(after.length)) child.remove();
};
const line = document.getElementById("line");
const events = new EventSource(document.getElementById("live").dataset.events);
let heard = Date.now();
events.onmessage = (event) => {
  heard = Date.now();
  if (line.textContent) line.textContent = "";
  const sent = new DOMParser().parseFromString(event.data, "text/html");
  for (const fresh of sent.querySelectorAll("[data-live]")) {
    const shown = document.getElementById(fresh.id);
    if (!shown) return location.reload();
    morph(shown, fresh);
  }
  for (const chart of charts) chart.read();
  const verdict = document.querySelector("#state p");
  const name = document.title.split(" · ").slice(1).join(" · ");
  if (verdict) document.title = verdict.textContent + " · " + name;
};
setInterval(() => {
  if (Date.now() - heard < 5000 || line.textContent) return;
  line.textContent = "The relay does not respond: the values below are old.";
  document.title = "No response · " + document.title.split(" · ").slice(1).join(" · ");
}, 1000);

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const charts = [...document.querySelectorAll("[data-chart]")].map((area) => {
  const plot = document.getElementById(area.dataset.chart + "-plot");
  const read = document.getElementById(area.dataset.chart + "-read");
  const hair = document.createElement("div");
  hair.className = "hair";
  hair.hidden = true;
  area.append(hair);
  area.tabIndex = 0;
  area.setAttribute("role", "group");
  area.setAttribute("aria-label", "Values by arrow keys");
  // Where the pointer is, from 0 to 1; null if it is elsewhere.
  let place = null;
  const chart = {
    read() {
      const series = plot.dataset.values.split(";").map((it) => it.split(","));
      const count = series[0].length;
      if (place === null || count < 2) {
        hair.hidden = true;
        read.textContent = "";
        return;
      }
      const at = Math.round(place * (count - 1));
      hair.hidden = false;
      hair.style.left = (100 * at) / (count - 1) + "%";
      const time = new Date((Number(plot.dataset.end) - (count - 1 - at)) * 1000);
      const names = plot.dataset.names.split(",");
      const value = (values) => (values[at] === "" ? "–" : number.format(values[at]) + " " + area.dataset.unit);
      const words = series.map((values, index) => (series.length > 1 ? names[index] + " " : "") + value(values));
      read.textContent = time.toISOString().slice(11, 19) + " " + words.join(", ");
    },
  };
  const move = (to) => {
    place = to === null ? null : Math.min(1, Math.max(0, to));
    chart.read();
  };
  area.onpointermove = (event) => {
    const box = area.getBoundingClientRect();
    move((event.clientX - box.left) / box.width);
  };
  area.onpointerleave = () => move(null);
  area.onblur = () => move(null);
  area.onkeydown = (event) => {
    const step = 1 / Math.max(1, plot.dataset.values.split(";")[0].split(",").length - 1);
    const to = { ArrowLeft: (place ?? 1) - step, ArrowRight: (place ?? 1) + step, Home: 0, End: 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(to);
  };
  return chart;
});
