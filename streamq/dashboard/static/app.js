"use strict";
// What JavaScript adds: live pages, charts, local times, keys, the theme. Every page works without it.
(() => {
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

  // Light and dark: the reader's choice, else the system's.
  const root = document.documentElement;
  const remember = (value) => { try { localStorage.setItem("streamq-theme", value); } catch {} };
  const remembered = () => { try { return localStorage.getItem("streamq-theme"); } catch { return null; } };
  if (remembered()) root.dataset.theme = remembered();
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme:dark)").matches;
  const switchTheme = () => { root.dataset.theme = dark() ? "light" : "dark"; remember(root.dataset.theme); draw(); };
  $("#theme").hidden = false;
  $("#theme").addEventListener("click", switchTheme);

  // Times in the reader's own language and zone; a click copies the exact moment.
  const format = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "medium"});
  const relative = new Intl.RelativeTimeFormat(undefined, {style: "short", numeric: "always"});
  const ago = (ms) => {
    const seconds = Math.round(ms / 1000), size = Math.abs(seconds);
    const [value, unit] = size < 60 ? [seconds, "second"] : size < 3600 ? [seconds / 60, "minute"]
      : size < 86400 ? [seconds / 3600, "hour"] : [seconds / 86400, "day"];
    return relative.format(-Math.round(value), unit);
  };
  const localTimes = (from = document) => $$("time[datetime]", from).forEach((time) => {
    const at = new Date(time.dateTime);
    if (isNaN(at)) return;
    if (!time.title) time.title = `${format.format(at)} · ${time.textContent} · click to copy`;
    const text = time.classList.contains("whole") ? `${format.format(at)} (${ago(Date.now() - at)})` : ago(Date.now() - at);
    if (time.textContent !== text) time.textContent = text;
  });
  const notice = $("#notice");
  const copy = async (text, what) => {
    try { await navigator.clipboard.writeText(text); notice.textContent = `Copied ${what}.`; }
    catch { notice.textContent = `This browser does not allow copying: ${text}`; }
  };
  document.addEventListener("click", (event) => {
    const time = event.target.closest("time[datetime]");
    if (time) copy(time.dateTime, time.dateTime);
    const button = event.target.closest("[data-copy]");
    if (button) copy($(button.dataset.copy).textContent, button.dataset.what);
  });
  const dress = () => { localTimes(); $$("[data-copy]").forEach((one) => { one.hidden = false; }); };
  dress();
  setInterval(localTimes, 10000);

  // Live: the server says that something is new, the page fetches itself and morphs.
  const live = $("#live[hx-get]");
  const pulse = $("#pulse");
  let dirty = false, last = 0, timer = 0, source = null;
  const chosen = () => $$("input[form=chosen]:checked").length;
  const busy = () => document.hidden || chosen() || (document.activeElement && document.activeElement.closest("#live form"));
  const refresh = () => {
    timer = 0;
    if (!dirty || busy()) return;
    dirty = false;
    last = Date.now();
    htmx.trigger($("#live"), "refresh");
    draw(true);
  };
  const soon = () => { dirty = true; if (!timer) timer = setTimeout(refresh, Math.max(0, 2000 - (Date.now() - last))); };
  const listen = () => {
    if (source || document.hidden) return;
    source = new EventSource($("meta[name=live]").content);
    source.onmessage = soon;
    source.onopen = () => pulse.classList.remove("off");
    source.onerror = () => pulse.classList.add("off");
  };
  const quiet = () => { if (source) { source.close(); source = null; } };
  if (live) {
    pulse.hidden = false;
    listen();
    document.addEventListener("visibilitychange", () => { if (document.hidden) quiet(); else { listen(); soon(); } });
    addEventListener("pagehide", quiet);
    addEventListener("pageshow", listen);
    // A session that has ended: the page itself leads to the login.
    document.addEventListener("htmx:after:request", (event) => {
      const response = event.detail && event.detail.ctx && event.detail.ctx.response;
      if (response && response.status === 401) location.reload();
    });
    document.addEventListener("htmx:after:swap", () => { dress(); mark(); });
  }

  // Charts.
  const NAMES = {accepted: "in", completed: "completed", failed: "failed", backlog: "tasks", wait_p95: "waiting", run_p95: "running"};
  const chart = $("[data-chart]");
  let span = "hour", plots = [], drawing = 0;
  const colour = (n) => getComputedStyle(root).getPropertyValue(`--c${n}`).trim();
  const time = (value) => value == null ? "–" : value < 1 ? `${(value * 1000).toPrecision(3)} ms` : value < 120 ? `${value.toPrecision(3)} s` : `${Math.round(value / 60)} min`;
  const number = (value) => value == null ? "–" : value.toLocaleString(undefined, {maximumFractionDigits: 2});
  const hour = new Intl.DateTimeFormat(undefined, {hour: "numeric", minute: "2-digit"});
  const plot = (place, data) => {
    const names = place.dataset.plot.split(" ");
    const show = names[0].endsWith("p95") ? time : number;
    const alone = data.times.filter((_, n) => names.some((name) => data[name][n] != null)).length < 3;
    const axis = {stroke: getComputedStyle(root).getPropertyValue("--soft").trim(), grid: {stroke: getComputedStyle(root).getPropertyValue("--line").trim(), width: 1}, ticks: {show: false}, font: "11px system-ui"};
    const series = names.map((name, n) => ({label: NAMES[name], stroke: colour(n + 1), width: 1.5, value: (_, v) => show(v), points: {show: alone, size: 5}, spanGaps: true}));
    const options = {width: Math.max(200, place.clientWidth), height: 180, series: [{value: (_, at) => at == null ? "–" : format.format(new Date(at * 1000))}, ...series], axes: [{...axis, space: 74, values: (_, ticks) => ticks.map((at) => hour.format(new Date(at * 1000)))}, {...axis, size: 56, values: (_, ticks) => ticks.map(show)}], scales: {y: {range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1]}}, cursor: {y: false}};
    place.replaceChildren();
    return new uPlot(options, [data.times, ...names.map((name) => data[name])], place);
  };
  async function draw(gently = false) {
    if (!chart || !window.uPlot || (gently && Date.now() - drawing < 10000)) return;
    drawing = Date.now();
    const address = new URL(chart.dataset.chart, location.href);
    address.searchParams.set("span", span);
    try {
      const data = await (await fetch(address)).json();
      if (!data.times) return;
      plots.forEach((one) => one.destroy());
      plots = $$("[data-plot]", chart).map((place) => plot(place, data));
    } catch {}
  }
  $$("[data-span]").forEach((button) => button.addEventListener("click", () => {
    span = button.dataset.span;
    $$("[data-span]").forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
    draw();
  }));
  addEventListener("resize", () => plots.forEach((one) => one.setSize({width: Math.max(200, one.root.parentNode.clientWidth), height: 180})));
  draw();

  // Several letters at once.
  const boxes = () => $$("input[form=chosen]");
  const showAll = () => { if ($("#all")) $("#all").hidden = false; };
  showAll();
  document.addEventListener("htmx:after:swap", showAll);
  document.addEventListener("change", (event) => {
    if (event.target.id === "all") boxes().forEach((one) => { one.checked = event.target.checked; });
    if (chosen()) $("#nothing").hidden = true; else if (dirty) soon();
  });
  if ($("#chosen")) $("#chosen").addEventListener("submit", (event) => {
    if (chosen()) return;
    event.preventDefault();
    $("#nothing").hidden = false;
  });

  // A long action goes on by itself.
  const going = $("form[data-go-on]");
  if (going) setTimeout(() => going.requestSubmit(), 150);

  // Keys.
  let row = -1, prefix = false;
  const rows = () => $$("table.rows tbody tr").filter((one) => $("a", one));
  const mark = () => rows().forEach((one, n) => one.classList.toggle("at", n === row));
  const step = (by) => {
    const all = rows();
    if (!all.length) return;
    row = Math.min(all.length - 1, Math.max(0, row + by));
    mark();
    $("a", all[row]).focus();
    all[row].scrollIntoView({block: "nearest"});
  };
  const help = () => $("#help").open ? $("#help").close() : $("#help").showModal();
  $("#keys").hidden = false;
  $("#keys").addEventListener("click", help);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]),textarea,select")) return;
    if (prefix) {
      prefix = false;
      const target = $(`nav a[data-key="${CSS.escape(event.key)}"]`);
      if (target) { event.preventDefault(); location.href = target.href; return; }
    }
    const keys = {"/": () => $("#q").focus(), "?": help, j: () => step(1), k: () => step(-1), m: switchTheme, x: () => { const box = rows()[row] && $("input[form=chosen]", rows()[row]); if (box) box.checked = !box.checked; }, g: () => { prefix = true; }};
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
})();
