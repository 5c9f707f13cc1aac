// SPDX-License-Identifier: Apache-2.0
// The dashboard: asks /larder/v1 and draws. No library, no build step.
//
// Every string from the server goes into the page as text (textContent), never as markup. Neither the
// admin key nor a client key nor a message is kept anywhere but in this page's memory, and none of them
// ever stands in a URL. The session is a cookie that this script cannot read.
"use strict";

const $ = (id) => document.getElementById(id);
const REFRESH_MS = 3000;
const state = { view: "overview", timer: 0, stats: null, filter: "", cursor: 0, turns: [] };

/* ---- making elements ---- */

function make(tag, attrs, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) {
    if (k === "class") e.className = v;
    else if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v !== null && v !== undefined) e.setAttribute(k, v);
  }
  for (const c of children) e.append(c instanceof Node ? c : document.createTextNode(String(c)));
  return e;
}

function svg(tag, attrs, text) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attrs || {})) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}

/* ---- numbers for people ---- */

const plain = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function count(n) {
  return n < 10000 ? plain.format(n) : compact.format(n);
}

function micros(us) {
  if (!us) return "–";
  if (us < 1000) return `${us < 10 ? us.toFixed(1) : Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 1e4 ? 1 : 0)} ms`;
  return span(us / 1000);
}

function span(ms) {
  const s = ms / 1000;
  if (s < 1) return `${Math.round(ms)} ms`;
  if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${(s / 3600).toFixed(1)} h`;
  return `${Math.round(s / 86400)} d`;
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < 4) { n /= 1024; i++; }
  return `${i && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

function money(v, currency) {
  if (!v) return "–";
  const text = v >= 1000 ? compact.format(v) : v >= 1 ? v.toFixed(2) : String(Number(v.toPrecision(2)));
  return `${text}${currency && currency !== "mixed" ? ` ${currency}` : ""}`;
}

function clock(ms) {
  return new Date(ms).toLocaleTimeString([], { hour12: false });
}

/* ---- asking ---- */

class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function ask(method, path, body) {
  const headers = { "x-larder-csrf": "1" };
  if (body) headers["content-type"] = "application/json";
  const r = await fetch(`/larder/v1/${path}`,
    { method, headers, body: body && JSON.stringify(body), credentials: "same-origin", cache: "no-store" });
  const text = await r.text();
  let data = null;
  try { data = JSON.parse(text); } catch { /* not JSON: a proxy's page, perhaps */ }
  if (!r.ok) {
    if (r.status === 401 && path !== "session") gate();
    throw new Refused(r.status, (data && data.error && data.error.message) || `HTTP ${r.status}`);
  }
  return data;
}

let toastTimer = 0;
function toast(text) {
  $("toast").textContent = text;
  $("toast").classList.add("on");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => $("toast").classList.remove("on"), 3500);
}

function sure(title, text, verb) {
  const d = $("ask");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = verb;
  d.returnValue = "no";
  d.showModal();
  return new Promise((done) =>
    d.addEventListener("close", () => done(d.returnValue === "yes"), { once: true }));
}

/* ---- signing in and moving about ---- */

function gate() {
  clearInterval(state.timer);
  for (const d of document.querySelectorAll("dialog[open]")) d.close();
  $("top").hidden = true;
  for (const v of document.querySelectorAll(".view")) v.hidden = true;
  $("sign-in").hidden = false;
  $("gate-key").focus();
}

function enter() {
  $("sign-in").hidden = true;
  $("top").hidden = false;
  show(location.hash.slice(1) || "overview");
  loadModels();
}

async function signIn(ev) {
  ev.preventDefault();
  const box = $("gate-key");
  const key = box.value.trim();
  box.value = "";
  $("gate-error").textContent = "";
  try {
    await ask("POST", "session", { key });
    enter();
  } catch (e) {
    $("gate-error").textContent = e.message;
    box.focus();
  }
}

async function signOut() {
  try { await ask("DELETE", "session"); } catch { /* gone already */ }
  $("chat-key").value = "";
  clearChat();
  gate();
}

const VIEWS = { overview: drawOverview, requests: drawRequests, entries: firstEntries, chat: null };

function show(view) {
  if (!(view in VIEWS)) view = "overview";
  state.view = view;
  for (const v of document.querySelectorAll(".view")) v.hidden = v.id !== view;
  for (const t of document.querySelectorAll(".tab")) {
    if (t.dataset.view === view) t.setAttribute("aria-current", "page");
    else t.removeAttribute("aria-current");
  }
  if (location.hash.slice(1) !== view) history.replaceState(null, "", `#${view}`);
  clearInterval(state.timer);
  refresh();
  if (view !== "entries") state.timer = setInterval(refresh, REFRESH_MS);
}

let asking = false;
async function refresh() {
  if (document.hidden || asking) return;
  asking = true;
  try {
    const draw = VIEWS[state.view];
    if (draw) await draw();
    else await ask("GET", "session");
    $("live").textContent = "live";
    $("live").classList.remove("off");
  } catch (e) {
    if (e.status !== 401) {
      $("live").textContent = "no answer";
      $("live").classList.add("off");
    }
  } finally {
    asking = false;
  }
}

/* ---- overview ---- */

function tile(name, value, note, lead) {
  return make("div", { class: lead ? "tile lead" : "tile" }, make("div", { class: "name" }, name),
    make("div", { class: "value" }, value), make("div", { class: "note", title: note }, note));
}

function drawTiles(s) {
  const t = s.totals;
  const asked = t.hit + t.stale + t.miss + t.coalesced;
  const tokens = t.tokens_in_saved + t.tokens_out_saved;
  $("tiles").replaceChildren(
    tile("Hit rate", asked ? `${(t.hit_rate * 100).toFixed(1)}%` : "–",
      `${count(t.hit + t.stale)} of ${count(asked)} requests`, true),
    tile("Tokens saved", tokens ? count(tokens) : "–",
      `${count(t.tokens_in_saved)} in, ${count(t.tokens_out_saved)} out`),
    tile("Money saved", money(t.money_saved), s.currency
      ? `${s.currency === "mixed" ? "mixed currencies" : s.currency}; ${money(t.money_spent)} spent`
      : "no prices configured"),
    tile("Time saved", t.ms_saved ? span(t.ms_saved) : "–", `up ${span(s.uptime_ms)}`),
    tile("Entries", count(s.store.entries), `${bytes(s.store.bytes)} of ${bytes(s.store.bytes_max)}`),
    tile("First byte, p50", micros(s.first_byte_us.hit.p50),
      `of hits; misses ${micros(s.first_byte_us.miss.p50)}`));
}

/* What the chart can show: its stacked parts as [colour, words, value of a column]; side: drawn next to each
 * other on a logarithmic scale, for values that are orders of magnitude apart. */
const MEASURES = {
  requests: { parts: [["hit", "from the cache", (c) => c.hit / c.per],
    ["shared", "shared in flight", (c) => c.coalesced / c.per],
    ["miss", "asked upstream", (c) => c.miss / c.per], ["error", "failed", (c) => c.error / c.per]] },
  rate: { parts: [["hit", "% from the cache", (c) => {
    const asked = c.hit + c.coalesced + c.miss;
    return asked ? (100 * c.hit) / asked : 0;
  }]], top: 100 },
  tokens: { parts: [["hit", "tokens saved", (c) => c.tokens_saved / c.per]] },
  money: { parts: [["hit", "money saved", (c) => c.money_saved / c.per]] },
  seconds: { parts: [["hit", "seconds saved", (c) => c.ms_saved / 1000 / c.per]] },
  latency: { parts: [["hit", "ms of hits", (c) => (c.hits_timed ? c.hit_us / c.hits_timed / 1000 : 0)],
    ["miss", "ms of misses", (c) => (c.miss ? c.miss_us / c.miss / 1000 : 0)]], side: true },
};
const SUMMED = ["coalesced", "miss", "error", "tokens_saved", "money_saved", "ms_saved"];

/* At most 90 columns: minutes are added up where there are more. */
function columns(series) {
  const per = Math.ceil(series.length / 90);
  const out = [];
  for (let i = 0; i < series.length; i += per) {
    const c = { minute: series[i].minute, per, hit: 0, hits_timed: 0, hit_us: 0, miss_us: 0 };
    for (const k of SUMMED) c[k] = 0;
    for (const m of series.slice(i, i + per)) {
      c.hit += m.hit + m.stale;
      c.hits_timed = c.hit;
      c.hit_us += m.hit_us * (m.hit + m.stale); /* a mean a minute: weighed by how many */
      c.miss_us += m.miss_us * m.miss;
      for (const k of SUMMED) c[k] += m[k];
    }
    out.push(c);
  }
  return out;
}

function niceTop(n, least) {
  for (let base = 10 ** Math.floor(Math.log10(Math.max(n, least))); ; base *= 10)
    for (const k of [1, 2, 4, 5, 10])
      if (k * base >= n && k * base >= least) return k * base;
}

function few(v) {
  return v >= 100 ? compact.format(v) : String(Number(v.toPrecision(2)));
}

/* Height of a value, 0..1. Logarithmic: from 10 microseconds to the top. */
function scale(m, top) {
  if (!m.side) return (v) => v / top;
  const low = Math.log10(0.01), high = Math.log10(top);
  return (v) => (v > 0.01 ? (Math.log10(v) - low) / (high - low) : 0);
}

function drawLegend(m) {
  $("legend").replaceChildren(...m.parts.map(([cls, words]) =>
    make("span", {}, make("i", { class: `sw ${cls}` }), words)));
}

function drawColumn(pic, m, c, x, step, y) {
  const w = Math.max(step - (step > 5 ? 2 : 0.5), 1), n = m.side ? m.parts.length : 1;
  let at = 0;
  m.parts.forEach(([cls, , value], i) => {
    const v = value(c);
    if (!v) return;
    const from = m.side ? y(0) : y(at), to = m.side ? y(v) : y(at + v);
    pic.append(svg("rect", { class: cls, x: x + (step - w) / 2 + (m.side ? (i * w) / n : 0), y: to,
      width: w / n, height: Math.max(from - to, 0.5), rx: Math.min(1.5, w / n / 3) }));
    at += v;
  });
}

function drawChart(series) {
  const box = $("chart"), m = MEASURES[$("measure").value];
  const W = Math.max(box.clientWidth, 260), H = 190, L = 42, B = 22, T = 6;
  const cols = columns(series);
  const sum = (c) => m.parts.reduce((a, p) => (m.side ? Math.max(a, p[2](c)) : a + p[2](c)), 0);
  const top = m.top || niceTop(Math.max(0, ...cols.map(sum)), m === MEASURES.requests ? 4 : 1e-6);
  const part = scale(m, top), y = (v) => T + (H - T - B) * (1 - part(v));
  const step = (W - L) / cols.length;
  const label = $("measure").selectedOptions[0].textContent;
  const busy = cols.filter(sum);
  const pic = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img",
    "aria-label": `${label}, ${series.length} minutes. ` + m.parts.map(([, words, value]) =>
      `${words}: ${few(Math.max(0, ...cols.map(value)))} at most`).join("; ") });
  for (const v of m.side ? [0.01, Math.sqrt(0.01 * top), top] : [0, top / 2, top]) {
    pic.append(svg("line", { class: "grid", x1: L, x2: W, y1: y(v), y2: y(v) }));
    pic.append(svg("text", { x: L - 6, y: y(v) + 4, "text-anchor": "end" }, few(v)));
  }
  cols.forEach((c, i) => {
    const x = L + i * step;
    drawColumn(pic, m, c, x, step, y);
    const hover = svg("rect", { class: "hover", x, y: T, width: step, height: H - T - B });
    hover.append(svg("title", {}, `${clock(c.minute * 60000).slice(0, 5)}  ` +
      m.parts.map(([, words, value]) => `${few(value(c))} ${words}`).join(", ")));
    pic.append(hover);
  });
  const marks = W < 500 ? 3 : 6;
  for (let i = 0; i <= marks; i++) {
    const c = cols[Math.min(Math.round((cols.length * i) / marks), cols.length - 1)];
    const anchor = i === 0 ? "start" : i === marks ? "end" : "middle";
    pic.append(svg("text", { x: L + ((W - L) * i) / marks, y: H - 5, "text-anchor": anchor },
      clock(c.minute * 60000).slice(0, 5)));
  }
  drawLegend(m);
  box.replaceChildren(pic);
  if (!busy.length) box.append(make("div", { class: "empty" }, "Nothing in this time."));
}

function drawReasons(reasons) {
  const rows = Object.entries(reasons).sort((a, b) => b[1] - a[1]).slice(0, 8);
  const top = Math.max(1, ...rows.map((r) => r[1]));
  const box = make("div", { class: "bars" });
  for (const [name, n] of rows) {
    const fill = make("div", { class: "fill" });
    fill.style.width = `${(100 * n) / top}%`;
    box.append(make("div", { class: "bar" }, make("span", { class: "what", title: name }, name),
      make("div", { class: "track", "aria-hidden": "true" }, fill), make("span", { class: "n" }, count(n))));
  }
  $("reasons").replaceChildren(rows.length ? box : make("p", { class: "muted" }, "Nothing but hits so far."));
}

function drawUpstreams(list) {
  $("ups").replaceChildren(...list.map((u) => {
    const word = u.breaker !== "closed" ? `breaker ${u.breaker}` : u.probe_bad ? "unhealthy" : "up";
    const cls = u.breaker === "trial" ? "trial" : u.up ? "up" : "down";
    return make("tr", {}, make("td", { class: "cut", title: u.host }, u.name),
      make("td", {}, make("span", { class: `badge ${cls}` }, word)),
      make("td", { class: "num" }, u.inflight), make("td", { class: "num" }, micros(u.first_byte_us)),
      make("td", { class: "num" }, count(u.tries)), make("td", { class: "num" }, count(u.fails)));
  }));
  if (!list.length)
    $("ups").append(make("tr", {}, make("td", { class: "none", colspan: 6 },
      "None: models of this machine answer, if there are any, and stored answers.")));
}

// Rates are of the time since the last look; of the time it was busy at the first.
function drawModels(list) {
  $("models").hidden = !list.length;
  const before = state.models || {}, now = {};
  $("model-rows").replaceChildren(...list.map((m) => {
    const old = before[m.name] || { busy_ms: 0, steps: 0, step_tokens: 0 };
    const tokens = m.step_tokens - old.step_tokens, steps = m.steps - old.steps, ms = m.busy_ms - old.busy_ms;
    const prompt = m.prompt_tokens + m.cached_tokens;
    now[m.name] = m;
    return make("tr", {}, make("td", { class: "cut", title: `${m.policy}, context ${m.context}` }, m.name),
      make("td", {}, make("span", { class: `badge ${m.up ? "up" : "down"}` }, m.up ? "up" : "failed")),
      make("td", { class: "num" }, m.running), make("td", { class: "num" }, m.waiting),
      make("td", { class: "num" }, ms ? count(Math.round((1000 * tokens) / ms)) : "–"),
      make("td", { class: "num" }, steps ? (tokens / steps).toFixed(1) : "–"),
      make("td", { class: "num" }, `${bytes(m.kv_used)} of ${bytes(m.kv_max)}`),
      make("td", { class: "num" }, prompt ? `${Math.round((100 * m.cached_tokens) / prompt)}%` : "–"));
  }));
  state.models = now;
}

function drawTiers(tiers) {
  $("kv-tiers").replaceChildren(...tiers.map((t) => {
    const fill = make("div", { class: "fill" });
    fill.style.width = `${t.bytes_max ? Math.min((100 * t.bytes) / t.bytes_max, 100) : 0}%`;
    return make("tr", {}, make("td", {}, t.tier),
      make("td", {}, make("span", { class: `badge ${t.ok ? "up" : "down"}` }, t.ok ? "ok" : "fails")),
      make("td", { class: "num" }, t.bytes === undefined ? "–" : bytes(t.bytes)),
      make("td", { class: "num" }, t.bytes_max === undefined ? "–" : bytes(t.bytes_max)),
      make("td", { class: "share" }, make("div", { class: "track", "aria-hidden": "true" }, fill)),
      make("td", { class: "num" }, t.pinned === undefined ? "–" : bytes(t.pinned)),
      make("td", { class: "num" }, t.queue_bytes === undefined ? "–" : bytes(t.queue_bytes)));
  }));
}

function drawClients(rows) {
  $("kv-who").hidden = !rows.length;
  $("kv-clients").replaceChildren(...rows.map((r) => make("tr", {},
    make("td", { class: "cut", title: `${r.address}, ${r.tenant_name || r.tenant}, namespace ${r.namespace}` },
      `${r.client}  ${r.name || r.address}`),
    make("td", { class: "cut", title: `${r.model} (${r.form})` }, r.model),
    make("td", {}, `${r.rank} of ${r.world}`), make("td", {}, r.dtype || "–"),
    make("td", { class: "num" }, r.chunk_tokens ? `${r.chunk_tokens} tokens`
      : r.chunk_bytes ? bytes(r.chunk_bytes) : "–"),
    make("td", { class: "num" }, count(r.sets)), make("td", { class: "num" }, count(r.gets + r.asks)),
    make("td", { class: "num" }, count(r.hits + r.there)))));
}

function drawFindings(d) {
  $("kv-findings").replaceChildren(...d.findings.map((f) => make("li", {},
    make("p", {}, make("span", { class: `badge ${f.sure ? "down" : "trial"}` }, f.sure ? f.reason : `likely ${f.reason}`),
      ` ${f.model}: ${f.says}.`),
    make("p", { class: "muted" }, `To mend it: ${f.fix}.`))));
}

async function drawKv(kv) {
  $("kv").hidden = !kv;
  if (!kv) return;
  $("kv-line").textContent = `${count(kv.entries)} objects, ` +
    (kv.door.gets ? `${(kv.hit_rate * 100).toFixed(1)}% of ${count(kv.door.gets)} gets found` : "no gets yet") +
    `, ${count(kv.drops)} dropped, ${count(kv.errors)} errors, ${count(kv.door.connections)} connections`;
  drawTiers(kv.tiers);
  const d = await ask("GET", "kv/doctor");
  drawClients(d.rows);
  drawFindings(d);
}

async function drawOverview() {
  const [s, i, q] = await Promise.all([ask("GET", `stats?minutes=${$("span").value}`),
    ask("GET", "instances"), ask("GET", "requests?limit=10")]);
  state.stats = s;
  drawTiles(s);
  drawChart(s.series);
  drawReasons(s.reasons);
  drawUpstreams(i.instances);
  drawModels(s.models);
  await drawKv(s.kv);
  drawRows($("recent"), q.requests);
}

/* ---- requests ---- */

function badge(word) {
  return make("span", { class: `badge ${word}` }, word);
}

const REQUEST_HEAD = [["Time"], ["Outcome"], ["Reason"], ["Model"], ["Tenant"], ["First byte", "num"],
  ["Total", "num"], ["Tokens", "num"], ["Request"]];

function drawRows(body, list) {
  const focused = body.contains(document.activeElement) ? document.activeElement.dataset.id : null;
  body.replaceChildren(...list.map((q) => make("tr", {},
    make("td", {}, clock(q.at_ms)), make("td", {}, badge(q.cache)),
    make("td", { class: "cut", title: q.reason }, q.reason),
    make("td", { class: "cut", title: q.model }, q.model || "–"),
    make("td", { class: "cut", title: q.tenant_name }, q.tenant_name || "–"),
    make("td", { class: "num" }, micros(q.first_us)), make("td", { class: "num" }, micros(q.total_us)),
    make("td", { class: "num" }, count(q.tokens_in + q.tokens_out)),
    make("td", {}, make("button", { class: "link mono", type: "button", "data-id": q.request_id,
      "aria-label": `Explain request ${q.request_id}`, onclick: () => explain(q.request_id) },
      `${q.request_id.slice(0, 10)}…`)))));
  if (!list.length)
    body.append(make("tr", {}, make("td", { class: "none", colspan: REQUEST_HEAD.length },
      "No requests yet. Point a client at this address.")));
  if (focused) for (const b of body.querySelectorAll("button")) if (b.dataset.id === focused) b.focus();
}

async function drawRequests() {
  drawRows($("all-requests"), (await ask("GET", "requests?limit=100")).requests);
}

/* ---- explain ---- */

function fact(list, name, value) {
  if (value === "" || value === null || value === undefined) return;
  list.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
}

function waterfall(x) {
  const total = x.rooms.reduce((a, r) => a + r.us, 0) || 1;
  const box = make("div", { class: "fall" });
  let at = 0;
  for (const r of x.rooms) {
    const fill = make("div", { class: "fill" });
    fill.style.left = `${Math.min((100 * at) / total, 99.5)}%`;
    fill.style.width = `${(100 * r.us) / total}%`;
    box.append(make("div", { class: "row" }, make("span", {}, r.room),
      make("div", { class: "track", "aria-hidden": "true" }, fill),
      make("span", { class: "num" }, micros(r.us))));
    at += r.us;
  }
  return box;
}

function facts(x) {
  const f = make("dl", { class: "facts" });
  const cur = x.price ? x.price.currency : "";
  fact(f, "Time", new Date(x.at_ms).toLocaleString());
  fact(f, "Status", x.status || "");
  fact(f, "Model", x.model);
  fact(f, "Dialect", `${x.dialect || "passed through"}${x.stream ? ", streamed" : ""}`);
  fact(f, "Upstream", x.upstream);
  fact(f, "Chosen by", x.choice && `${x.choice}, ${x.tries} ${x.tries === 1 ? "try" : "tries"}`);
  fact(f, "Tenant", x.tenant_name);
  fact(f, "Tag", x.tag);
  fact(f, "Category", x.category);
  fact(f, "Entry", x.entry && make("code", {}, x.entry));
  fact(f, "Stored", x.entry ? (x.stored ? "yes" : "no") : "");
  fact(f, "Age", x.cache === "hit" || x.cache === "stale" ? span(x.age_ms) : "");
  fact(f, "First byte", micros(x.first_us));
  fact(f, "Total", micros(x.total_us));
  fact(f, "Tokens", `${count(x.tokens_in)} in, ${count(x.tokens_out)} out`);
  fact(f, "Time saved", x.ms_saved ? span(x.ms_saved) : "");
  fact(f, "Money saved", x.money_saved ? money(x.money_saved, cur) : "");
  fact(f, "Money spent", x.money_spent ? money(x.money_spent, cur) : "");
  fact(f, "Price", x.price && `${x.price.input} in, ${x.price.output} out ${cur} per million tokens, ` +
    `as of ${x.price.date || "no date"}`);
  fact(f, "Agent", [x.program, x.parent, x.tool].filter(Boolean).join(" / "));
  return f;
}

const VERDICTS = {
  "same-key": "Both have the same key: nothing that counts differs.",
  "other-tenant": "They belong to different tenants, whose keys cannot be compared.",
  "forgotten": "What the key of one of them was made of is no longer remembered.",
  "same-members": "No member differs; a header that counts may.",
};

function compareForm(id) {
  const pick = make("select", { "aria-label": "Request to compare with" });
  const out = make("p", { class: "answer", role: "status" });
  const go = make("form", { class: "compare", onsubmit: async (ev) => {
    ev.preventDefault();
    if (!pick.value) return;
    try {
      const a = (await ask("GET", `explain/${id}?against=${pick.value}`)).against;
      if (a.verdict === "differ")
        out.replaceChildren("They first differ in ", make("code", {}, a.first_difference), ".");
      else out.textContent = VERDICTS[a.verdict] || a.verdict;
    } catch (e) { out.textContent = e.message; }
  } }, pick, make("button", { type: "submit" }, "Compare"));
  ask("GET", "requests?limit=100").then((q) => {
    for (const o of q.requests)
      if (o.request_id !== id && o.entry)
        pick.append(make("option", { value: o.request_id },
          `${clock(o.at_ms)}  ${o.cache}  ${o.model}  ${o.request_id.slice(0, 10)}…`));
  }).catch(() => {});
  return make("div", {}, make("h2", { class: "sub" }, "Compare with another request"), go, out);
}

async function explain(id) {
  let x;
  try {
    x = await ask("GET", `explain/${encodeURIComponent(id)}`);
  } catch (e) {
    if (e.status !== 401) toast(e.message);
    return;
  }
  $("ex-title").textContent = `Request ${x.request_id.slice(0, 10)}…`;
  const body = $("ex-body");
  body.replaceChildren(make("p", { class: "verdict" }, badge(x.cache), ` ${x.reason}`,
    x.meaning ? `: ${x.meaning}.` : ""), waterfall(x), facts(x));
  if (x.entry && x.stored)
    body.append(make("div", { class: "dialog-go" }, make("button", { class: "danger", type: "button",
      onclick: async () => { if (await badHit(x.entry)) $("explain").close(); } }, "Report bad hit")));
  if (x.entry) body.append(compareForm(x.request_id));
  if (!$("explain").open) $("explain").showModal();
}

/* ---- entries ---- */

async function badHit(entry) {
  if (!await sure("Report a bad hit?", "The stored answer is deleted and counted; the next such request " +
    "asks the upstream again.", "Report")) return false;
  try {
    await ask("POST", "feedback", { entry, verdict: "bad" });
    toast("Deleted and counted.");
    return true;
  } catch (e) { toast(e.message); return false; }
}

async function deleteEntry(id, row) {
  if (!await sure("Delete this entry?", "The next such request asks the upstream again.", "Delete")) return;
  try {
    await ask("DELETE", `entries/${id}`);
    row.remove();
    toast("Deleted.");
  } catch (e) { toast(e.message); }
}

function entryRow(e) {
  const row = make("tr", {}, make("td", { class: "mono", title: e.id }, e.id.slice(0, 12)),
    make("td", { class: "cut", title: e.model }, e.model || "–"),
    make("td", { class: "cut", title: e.tag }, e.tag || "–"),
    make("td", { class: "cut", title: e.tenant }, e.tenant_name || e.tenant),
    make("td", { class: "num" }, span(e.age_ms)), make("td", { class: "num" }, count(e.hits)),
    make("td", { class: "num" }, bytes(e.bytes)), make("td", { class: "num" }, span(e.took_ms)));
  row.append(make("td", { class: "acts" },
    make("button", { type: "button", class: "small", "aria-label": `Report ${e.id.slice(0, 12)} as a bad hit`,
      onclick: async () => { if (await badHit(e.id)) row.remove(); } }, "Bad hit"),
    make("button", { type: "button", class: "small danger", "aria-label": `Delete ${e.id.slice(0, 12)}`,
      onclick: () => deleteEntry(e.id, row) }, "Delete")));
  return row;
}

function filterQuery() {
  const p = new URLSearchParams();
  for (const [k, v] of new FormData($("filter"))) if (v.trim()) p.set(k, v.trim());
  return p.toString();
}

async function moreEntries() {
  const q = [state.filter, state.cursor ? `cursor=${state.cursor}` : "", "limit=50"].filter(Boolean).join("&");
  const page = await ask("GET", `entries?${q}`);
  $("entry-rows").append(...page.entries.map(entryRow));
  state.cursor = page.cursor;
  $("more").hidden = !page.cursor;
  if (!$("entry-rows").children.length)
    $("entry-rows").append(make("tr", {}, make("td", { class: "none", colspan: 9 }, "No entry matches.")));
}

async function firstEntries() {
  $("entry-rows").replaceChildren();
  $("entries-note").textContent = "";
  state.filter = filterQuery();
  state.cursor = 0;
  try {
    const [s] = await Promise.all([ask("GET", "stats?minutes=0"), moreEntries()]);
    $("store-line").textContent = `${count(s.store.entries)} answers, ${bytes(s.store.bytes)}; ` +
      `${count(s.store.hot_entries)} of them in memory`;
  } catch (e) {
    $("entries-note").textContent = e.message;
    throw e;
  }
}

async function purge() {
  const q = filterQuery();
  const which = q || "all=true";
  try {
    const dry = await ask("DELETE", `entries?${which}&dry_run=true`);
    if (!dry.matched) { toast("Nothing matches."); return; }
    if (!await sure(q ? "Delete what matches?" : "Delete everything?",
      `${count(dry.matched)} entries, ${bytes(dry.bytes)}.`, "Delete")) return;
    const done = await ask("DELETE", `entries?${which}`);
    toast(`${count(done.deleted)} deleted.`);
    await firstEntries();
  } catch (e) { toast(e.message); }
}

/* ---- chat ---- */

async function loadModels() {
  try {
    const r = await fetch("/v1/models", { headers: keyHeaders(), credentials: "omit", cache: "no-store" });
    const list = (await r.json()).data || [];
    $("chat-models").replaceChildren(...list.map((m) => make("option", { value: m.id })));
    if (!$("chat-model").value && list.length) $("chat-model").value = list[0].id;
  } catch { /* a name can be typed */ }
}

function keyHeaders() {
  const key = $("chat-key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

/* Calls on(text) for each piece of a streamed answer. */
async function readStream(response, on) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:") || line.includes("[DONE]")) continue;
      const ev = JSON.parse(line.slice(5));
      if (ev.error) throw new Error(ev.error.message || "the answer broke off");
      const d = ev.choices && ev.choices[0] && ev.choices[0].delta;
      if (d && d.content) on(d.content);
    }
  }
}

function clearChat() {
  state.turns = [];
  $("log").replaceChildren();
}

function say(who, text) {
  const e = make("div", { class: `say ${who}` }, text);
  $("log").append(e);
  $("log").scrollTop = $("log").scrollHeight;
  return e;
}

/* The line under an answer: what the headers said, and what explain knows a moment later. */
async function prove(box, response, ms) {
  const h = (n) => response.headers.get(`x-larder-${n}`) || "";
  const line = make("div", { class: "proof" }, badge(h("cache") || "error"));
  const add = (t) => { if (t) line.append(make("span", {}, t)); };
  if (h("shelf") && h("shelf") !== "none") add(`shelf: ${h("shelf")}`);
  add(h("reason") && `reason: ${h("reason")}`);
  if (h("age")) add(`age: ${span(Number(h("age")) * 1000)}`);
  add(`took ${span(ms)}`);
  box.append(line);
  const id = h("request-id");
  if (!id) return;
  line.append(make("button", { type: "button", class: "link", onclick: () => explain(id) }, "explain"));
  if (h("cache") !== "hit" && h("cache") !== "stale") return;
  line.append(make("button", { type: "button", class: "link", onclick: () => badHit(h("entry")) }, "bad hit"));
  await new Promise((r) => setTimeout(r, 150)); // the record is written when the exchange has ended
  try {
    const x = await ask("GET", `explain/${id}`);
    const price = x.price ? x.price.currency : "";
    line.insertBefore(make("span", {}, `saved ${span(x.ms_saved)}${x.money_saved
      ? ` and ${money(x.money_saved, price)}` : ""}`), line.querySelector("button"));
  } catch { /* the headers have said enough */ }
}

async function send(ev) {
  ev.preventDefault();
  const text = $("chat-text").value.trim();
  const stream = $("chat-stream").checked;
  if (!text || $("chat-send").disabled) return;
  if ($("chat-alone").checked) state.turns = [];
  state.turns.push({ role: "user", content: text });
  $("chat-text").value = "";
  $("chat-send").disabled = true;
  say("me", text);
  const box = say("it", "");
  const words = document.createTextNode("");
  box.append(words);
  const t0 = performance.now();
  let response = null;
  try {
    /* no cache option here: a browser would turn it into cache-control: no-cache */
    response = await fetch("/v1/chat/completions", { method: "POST", credentials: "omit",
      headers: { "content-type": "application/json", ...keyHeaders() },
      body: JSON.stringify({ model: $("chat-model").value.trim(), messages: state.turns, stream }) });
    if (!response.ok) {
      const e = await response.json().catch(() => null);
      throw new Error((e && e.error && e.error.message) || `HTTP ${response.status}`);
    }
    if (stream) await readStream(response, (piece) => { words.data += piece; });
    else words.data = (await response.json()).choices[0].message.content || "";
    state.turns.push({ role: "assistant", content: words.data });
  } catch (e) {
    state.turns.pop();
    box.append(make("span", { class: "error" }, e.message));
  } finally {
    $("chat-send").disabled = false;
    $("chat-text").focus();
  }
  if (response) await prove(box, response, performance.now() - t0);
  $("log").scrollTop = $("log").scrollHeight;
}

/* ---- start ---- */

function wire() {
  for (const head of document.querySelectorAll(".req-head"))
    head.append(make("tr", {}, ...REQUEST_HEAD.map(([name, cls]) => make("th", { class: cls || "" }, name))));
  for (const t of document.querySelectorAll("[data-view]"))
    t.addEventListener("click", () => show(t.dataset.view));
  for (const t of document.querySelectorAll("[data-go]"))
    t.addEventListener("click", () => show(t.dataset.go));
  $("gate-form").addEventListener("submit", signIn);
  $("sign-out").addEventListener("click", signOut);
  $("span").addEventListener("change", refresh);
  $("measure").addEventListener("change", () => { if (state.stats) drawChart(state.stats.series); });
  $("find-form").addEventListener("submit", (ev) => {
    ev.preventDefault();
    if ($("find-id").value.trim()) explain($("find-id").value.trim());
  });
  $("filter").addEventListener("submit", (ev) => {
    ev.preventDefault();
    firstEntries().catch(() => {});
  });
  $("more").addEventListener("click", () => moreEntries().catch((e) => toast(e.message)));
  $("purge").addEventListener("click", purge);
  $("chat-form").addEventListener("submit", send);
  $("chat-clear").addEventListener("click", clearChat);
  $("chat-key").addEventListener("change", loadModels);
  $("chat-text").addEventListener("keydown", (ev) => {
    if (ev.key === "Enter" && (ev.ctrlKey || ev.metaKey)) $("chat-form").requestSubmit();
  });
  addEventListener("hashchange", () => { if (!$("top").hidden) show(location.hash.slice(1)); });
  addEventListener("resize", () => {
    if (state.view === "overview" && state.stats && !$("top").hidden) drawChart(state.stats.series);
  });
  document.addEventListener("visibilitychange", refresh);
}

wire();
ask("GET", "session").then(enter, gate);
