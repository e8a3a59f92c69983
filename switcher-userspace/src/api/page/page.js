// The agent's page: asks it every second, and shows what it says. Nothing here is remembered anywhere else.
"use strict";

const EVERY = 1000;
const PATIENCE = 8000;
/** Samples that are kept: five minutes. */
const KEEPS = 300;
/** A silence of the agent that a line is broken by, in milliseconds. */
const GAP = 5000;
const DASHES = ["", "7 4", "2 3", "9 3 2 3", "1 4", "12 4", "5 2", "3 6"];
const HUES = {
  blue: 216, green: 148, red: 2, orange: 26, amber: 40, yellow: 48, lime: 90, teal: 176, cyan: 190,
  indigo: 240, violet: 262, purple: 276, magenta: 305, pink: 332,
};
const VERBS = { flip: "Flip", rollback: "Roll back", confirm: "Confirm", abort: "Abort" };

const $ = (id) => document.getElementById(id);
const state = { status: null, who: null, cutovers: [], samples: [], shown: new Map(), key: "", asked: 0, skew: 0 };

// ---- small things ----

/** An element with text, classes and children. Text is never markup. */
function make(tag, { text, of, ...rest } = {}, ...children) {
  const element = document.createElement(tag);
  if (of) element.className = of;
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(rest)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Sets text only where it differs: what is read aloud or selected stays as it is. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function show(element, whether) {
  if (element.hidden === whether) element.hidden = !whether;
}

/** Replaces children if what they are made of differs. */
function redo(element, of, children) {
  const key = JSON.stringify(of);
  if (element.made === key) return;
  element.made = key;
  element.replaceChildren(...children());
}

function count(number) {
  if (number === null || number === undefined) return "?";
  if (number > 0 && number < 1) return "<1";
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (number >= size) return (number / size).toFixed(number < 10 * size ? 1 : 0) + unit;
  }
  return String(Math.round(number));
}

function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const parts = [[Math.floor(seconds / 86400), "d"], [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"], [seconds % 60, "s"]];
  const first = parts.findIndex(([number]) => number > 0);
  if (first < 0) return "0s";
  return parts.slice(first, first + 2).filter(([number]) => number > 0).map(([n, unit]) => n + unit).join(" ");
}

const micros = (us) => us < 1000 ? `${us} µs` : us < 1e6 ? `${(us / 1000).toFixed(1)} ms` : `${(us / 1e6).toFixed(1)} s`;

/** The agent's clock, as far as its answers tell. */
const now = () => Date.now() + state.skew;
const moment = (text) => new Date(text).getTime();

function clock(text) {
  const at = new Date(text);
  const day = at.toDateString() === new Date(now()).toDateString();
  return day ? at.toLocaleTimeString() : at.toLocaleString();
}

/** By name where that is a colour's, else always the same; never two alike in a group. */
function hues(names) {
  const taken = [];
  const found = {};
  const named = (name) => HUES[name.toLowerCase()];
  // Those that are colours' come first, and have what they are called by.
  const order = [...names].sort((a, b) => (named(a) === undefined) - (named(b) === undefined) || (a < b ? -1 : 1));
  for (const name of order) {
    let hue = named(name) ?? [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
    while (taken.some((other) => Math.min(Math.abs(other - hue), 360 - Math.abs(other - hue)) < 24)) hue = (hue + 47) % 360;
    taken.push(hue);
    found[name] = hue;
  }
  return found;
}

function tinted(element, hue) {
  element.style.setProperty("--hue", hue);
  return element;
}

// ---- the agent ----

/** What the agent answers; what it refuses is thrown as the problem that it says. */
async function ask(path, body) {
  const options = { cache: "no-store", signal: AbortSignal.timeout(body ? 120000 : PATIENCE) };
  if (body) {
    options.method = "POST";
    options.headers = { "content-type": "application/json" };
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const text = await response.text();
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    throw { detail: text.trim() || `HTTP status ${response.status}`, blockers: [], advice: "" };
  }
  if (!response.ok) throw answer;
  const date = Date.parse(response.headers.get("date"));
  // Its header has whole seconds; less than that is no difference.
  if (date) state.skew = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  return answer;
}

async function poll() {
  try {
    if (!state.who) state.who = await ask("v1/whoami");
    const status = await ask("v1/status");
    sample(status);
    state.status = status;
    const key = JSON.stringify(status.groups.map((it) => [it.name, it.revision, it.phase, it.cutover?.id]));
    if (key !== state.key || Date.now() - state.asked > 10000) {
      announce(status);
      state.cutovers = (await ask("v1/history?limit=100")).cutovers;
      [state.key, state.asked] = [key, Date.now()];
    }
    lost(null);
  } catch (problem) {
    // Whoever answers next may see somebody else in this.
    state.who = null;
    lost(problem);
  }
  draw();
  setTimeout(poll, EVERY);
}

function sample(status) {
  const counts = {};
  for (const group of status.groups) {
    for (const [name, colour] of Object.entries(group.colours)) {
      counts[`${group.name}/${name}`] = [colour.packets, colour.connections];
    }
  }
  state.samples.push({ at: Date.now(), counts });
  if (state.samples.length > KEEPS + 1) state.samples.shift();
}

/** Rates of a colour: [[time, packets or connections a second]], broken (null) where nobody answered. */
function rates(group, colour, which) {
  const found = [];
  for (let index = 1; index < state.samples.length; index += 1) {
    const [before, after] = [state.samples[index - 1], state.samples[index]];
    const [from, to] = [before, after].map((it) => it.counts[`${group}/${colour}`]?.[which]);
    if (from === undefined || to === undefined) continue;
    const took = after.at - before.at;
    if (took > GAP) found.push(null);
    found.push([after.at, Math.max(0, to - from) / (took / 1000)]);
  }
  return found;
}

function lost(problem) {
  const why = problem && (problem.detail || problem.message || String(problem));
  say($("lost"), problem ? `The agent does not answer: ${why}. Traffic goes on; what is below is old. Asking again …` : "");
  show($("lost"), Boolean(problem));
  $("groups").classList.toggle("old", Boolean(problem));
}

/** For those who do not see it: what has become of groups. */
function announce(status) {
  const said = status.groups.map((it) => `${it.name}: ${it.live} is live, ${it.phase}`).join("; ");
  if (state.key) say($("said"), said);
}

// ---- everything ----

function draw() {
  const { status, who } = state;
  if (!status) return;
  const interfaces = status.interfaces.map((it) => `${it.name} ${it.xdp}`).join(", ");
  say($("host"), `${status.agent.version} · ${interfaces} · up ${span(now() - moment(status.agent.started_at))}`);
  if (who) say($("who"), `${who.name.split(" (")[0]} · ${who.role}`);
  const troubles = status.interfaces.filter((it) => !it.attached)
    .map((it) => `${it.name}: its traffic is not steered: ${it.reason ?? "unknown why"}`);
  if (status.agent.pending) troubles.push(`not in the kernel yet: ${status.agent.pending}`);
  redo($("troubles"), troubles, () => troubles.map((text) => make("li", { text })));
  show($("troubles"), troubles.length > 0);
  const names = status.groups.map((it) => it.name);
  for (const [name, section] of state.shown) {
    if (names.includes(name)) continue;
    section.remove();
    state.shown.delete(name);
  }
  if (state.shown.size === 0) {
    $("groups").replaceChildren(...(names.length ? [] : [make("p", { of: "faint", text: "No groups are configured." })]));
  }
  for (const group of status.groups) {
    let section = state.shown.get(group.name);
    if (!section) {
      section = $("group").content.firstElementChild.cloneNode(true);
      section.querySelector("h2").textContent = group.name;
      section.setAttribute("aria-label", group.name);
      state.shown.set(group.name, section);
      $("groups").append(section);
    }
    drawGroup(section, group);
  }
}

function drawGroup(section, group) {
  const find = (of) => section.querySelector(of);
  const names = Object.keys(group.colours);
  const hue = hues(names);
  section.dataset.live = group.live;
  say(find(".phase"), group.phase);
  find(".phase").classList.toggle("busy", group.phase !== "idle");
  say(find(".since"), `${group.live} is live since ${span(now() - moment(group.since))}, by ${group.by}`);
  const next = group.next;
  show(find(".next"), Boolean(next));
  if (next) {
    const left = moment(next.at) - now();
    say(find(".countdown"), left > 500 ? `in ${span(left)}` : "now");
    say(find(".next span"), next.what);
  }
  drawActions(find(".actions"), group);
  drawColours(find(".colours"), group, hue);
  drawChart(find(".packets svg"), group, hue, 0, "packets");
  drawChart(find(".connections svg"), group, hue, 1, "new connections");
  drawFacts(find(".facts"), group);
  drawHistory(section, group, hue);
}

function drawActions(element, group) {
  const may = state.who?.may ?? [];
  const offers = [];
  const under = group.cutover && group.phase !== "idle" && group.phase !== "draining";
  if (group.phase === "confirming") offers.push(["confirm", undefined, `Confirm ${group.live}`]);
  if (under && group.phase !== "confirming" || group.canary) offers.push(["abort", undefined, "Abort"]);
  for (const to of Object.keys(group.colours)) {
    if (to !== group.live) offers.push(["flip", to, `Flip to ${to}`]);
  }
  if (group.rollback.to) offers.push(["rollback", undefined, `Roll back to ${group.rollback.to}`]);
  const allowed = offers.filter(([verb]) => may.includes(verb));
  const old = new Map([...element.children].map((it) => [it.dataset.key, it]));
  const wanted = allowed.map(([verb, to, text]) => {
    const key = `${verb} ${text}`;
    if (old.has(key)) return old.get(key);
    const button = make("button", { text, type: "button", "data-key": key });
    button.dataset.verb = verb;
    button.addEventListener("click", () => change(verb, group.name, to, text));
    return button;
  });
  // Who has the focus on one of them keeps it.
  if (wanted.length !== element.children.length || wanted.some((it, index) => element.children[index] !== it)) {
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    element.replaceChildren(...wanted);
    if (focused?.isConnected) focused.focus();
    else if (focused) wanted[0]?.focus();
  }
}

const RANK = { live: 0, previous: 1, staging: 2, retired: 3 };

function drawColours(element, group, hue) {
  const sorted = Object.entries(group.colours).sort(([, a], [, b]) => (RANK[a.role] ?? 9) - (RANK[b.role] ?? 9));
  redo(element, sorted.map(([name, it]) => [name, it.role, it.version, it.schema]), () => sorted.map(([name, colour]) => {
    const card = tinted(make("article", { of: `colour ${colour.role}`, "data-colour": name }), hue[name]);
    const release = [colour.version, colour.schema && `schema ${colour.schema}`].filter(Boolean).join(", ");
    card.append(make("h3", {}, make("span", { of: "name", text: name }), make("span", { of: "role", text: colour.role }),
      make("span", { of: "version", text: release })));
    card.append(make("p", { of: "numbers" }), make("ul"));
    return card;
  }));
  for (const card of element.children) {
    const name = card.dataset.colour;
    const colour = group.colours[name];
    const last = [0, 1].map((which) => rates(group.name, name, which).at(-1)?.[1]);
    const passing = colour.endpoints.filter((it) => it.healthy === true).length;
    const health = { true: ["healthy", "good"], false: ["not healthy", "bad"] }[colour.healthy] ?? ["health not known yet", "warn"];
    const numbers = card.querySelector(".numbers");
    const said = [[last[0] === undefined ? "–" : count(last[0]), " packets/s"], [last[1] === undefined ? "–" : count(last[1]), " conn/s"],
      [count(colour.flows), " flows"]];
    redo(numbers, [said, health, passing], () => [
      ...said.map(([number, unit]) => make("span", {}, make("b", { text: number }), unit)),
      make("span", { of: health[1], text: `${health[0]}, ${passing} of ${colour.endpoints.length}` }),
    ]);
    const failing = colour.endpoints.filter((it) => it.healthy === false)
      .map((it) => `${it.service} ${it.address}: ${it.reason ?? "passes again, but not often enough yet"}`);
    redo(card.querySelector("ul"), failing, () => failing.map((text) => make("li", { of: "bad", text })));
  }
}

function drawFacts(element, group) {
  const facts = [];
  const add = (label, text, of = "") => facts.push([label, text, of]);
  if (group.canary) {
    const by = group.canary.policy ? ", by policy" : "";
    add("canary", `${group.canary.percent} % of new connections go to ${group.canary.colour}${by}`);
  }
  if (group.window) {
    const used = Math.round(group.window.flow_map_used * 100);
    add("drain", `${group.window.phase}: ${count(group.window.flows_on_old)} flows left on old endpoints, flow map ${used} % used`);
  }
  if (group.frozen) add("frozen", `${group.frozen.reason} (${group.frozen.by})`, "warn");
  for (const [name, gate] of Object.entries(group.gates ?? {})) add(`gate ${name}`, `${gate.open ? "open" : "closed"}${gate.by ? `, by ${gate.by}` : ""}`);
  if (group.schema !== null && group.schema !== undefined) add("database", `at schema ${group.schema}`);
  for (const warning of group.warnings) add("warning", warning, "bad");
  const { to, eligible, blockers } = group.rollback;
  if (to && eligible) add("rollback", `to ${to} is possible`);
  else add("rollback", to ? `to ${to} would not help: ${blockers.join("; ")}` : `nowhere to: ${blockers.join("; ")}`);
  for (const blocker of group.blockers) add("in the way of a flip", blocker, "warn");
  redo(element, facts, () => facts.flatMap(([label, text, of], index) =>
    [make("dt", { text: label === facts[index - 1]?.[0] ? "" : label }), make("dd", { text, of })]));
}

// ---- charts ----

function svg(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** The next of 1, 2, 5, 10 … above. */
function ceiling(value) {
  const size = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((it) => it * size).find((it) => it >= value);
}

function drawChart(element, group, hue, which, unit) {
  const width = element.clientWidth || 600;
  const height = element.clientHeight || 150;
  const [left, right, top, bottom] = [38, 64, 8, 20];
  const names = Object.keys(group.colours).sort();
  const all = names.map((name) => [name, rates(group.name, name, which)]);
  const end = Date.now();
  const begin = end - KEEPS * EVERY;
  const seen = all.flatMap(([, points]) => points.filter((it) => it && it[0] >= begin).map((it) => it[1]));
  const most = ceiling(Math.max(1, ...seen));
  const x = (at) => left + (width - left - right) * (at - begin) / (end - begin);
  const y = (value) => top + (height - top - bottom) * (1 - value / most);
  const parts = [];
  for (const value of [0, most / 2, most]) {
    parts.push(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    parts.push(svg("text", { class: "axis", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, count(value)));
  }
  for (const ago of width < 460 ? [5, 3, 1] : [5, 4, 3, 2, 1]) {
    parts.push(svg("text", { class: "axis", x: x(end - ago * 60000), y: height - 5, "text-anchor": ago === 5 ? "start" : "middle" }, `${ago}m ago`));
  }
  let written = Infinity;
  for (const record of state.cutovers.filter((it) => it.group === group.name && it.stored)) {
    const at = moment(record.stored) - state.skew;
    if (at < begin || at > end) continue;
    parts.push(svg("line", { class: "mark", x1: x(at), x2: x(at), y1: top, y2: height - bottom }));
    // The newest come first, and are named as far as there is room.
    if (x(at) > written) continue;
    written = x(at) - 20 - 7 * record.to.length;
    parts.push(svg("text", { class: "axis", x: x(at) - 4, y: top + 10, "text-anchor": "end" }, `→ ${record.to}`));
  }
  const ends = [];
  all.forEach(([name, points], index) => {
    let path = "";
    let pen = "M";
    for (const point of points) {
      if (!point) pen = "M";
      else if (point[0] >= begin) {
        path += `${pen}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`;
        pen = "L";
      }
    }
    parts.push(tinted(svg("path", { class: "trace", d: path || "M0 0", "stroke-dasharray": DASHES[index % DASHES.length] }), hue[name]));
    const last = points.at(-1);
    if (last) ends.push([y(last[1]), name]);
  });
  // Names beside the lines' ends, one below the other.
  ends.sort((a, b) => a[0] - b[0]);
  let floor = height - 6 - 13 * ends.length;
  let free = 0;
  for (const [at, name] of ends) {
    floor += 13;
    free = Math.min(Math.max(at + 4, free + 13), floor);
    parts.push(tinted(svg("text", { class: "end", x: width - right + 6, y: free }, name), hue[name]));
  }
  element.replaceChildren(...parts);
  element.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const words = all.map(([name, points]) => `${name} ${count(points.at(-1)?.[1] ?? 0)}`).join(", ");
  element.setAttribute("aria-label", `${unit} a second: ${words}`);
}

// ---- history ----

const OUTCOMES = { switched: "good", succeeded: "good", "rolled-back": "bad", failed: "bad", aborted: "warn" };

function toward(record, hue) {
  return [tinted(make("span", { of: "name", text: record.from }), hue[record.from] ?? 0), " → ",
    tinted(make("span", { of: "name", text: record.to }), hue[record.to] ?? 0)];
}

function drawHistory(section, group, hue) {
  const ours = state.cutovers.filter((it) => it.group === group.name).slice(0, 20);
  show(section.querySelector(".none"), ours.length === 0);
  show(section.querySelector("table"), ours.length > 0);
  redo(section.querySelector("tbody"), ours.map((it) => [it.id, it.result, it.stage, clock(it.started)]), () => ours.map((record) => {
    const what = record.percent ? `${record.kind} ${record.percent} %` : record.kind;
    const result = record.result ?? "under way";
    const button = make("button", { of: "plain", type: "button", text: "receipt", "aria-label": `receipt of ${record.id}` });
    button.addEventListener("click", () => receipt(record.id, hue));
    return make("tr", { "data-id": record.id },
      make("td", { of: "when", text: clock(record.started) }), make("td", { of: "what", text: what }),
      make("td", {}, ...toward(record, hue)), make("td", { of: OUTCOMES[result] ?? "warn", text: result }),
      make("td", { text: record.actor.split(" (")[0] }), make("td", { of: "why", text: record.reason ?? "" }),
      make("td", {}, button));
  }));
}

/** Everything that is known of a cut-over, as `switcher show` says it. */
async function receipt(id, hue) {
  say($("receipt-title"), `Cut-over ${id}`);
  const body = $("receipt-body");
  body.replaceChildren(make("p", { text: "Asking the agent …" }));
  $("receipt").showModal();
  try {
    body.replaceChildren(told(await ask(`v1/cutovers/${encodeURIComponent(id)}`), hue));
  } catch (problem) {
    body.replaceChildren(refusal(problem));
  }
}

function told(record, hue) {
  const { receipt: more } = record;
  const list = make("dl", { of: "facts" });
  const add = (label, ...what) => list.append(make("dt", { text: label }), make("dd", {}, ...what));
  const at = (label, time, after = "") => { if (time) add(label, make("span", { of: "mono", text: time }), after); };
  const how = [record.percent && `${record.percent} %`, record.hard && "hard: existing connections were moved", record.forced && "forced: gates were skipped"];
  add("what", [record.kind, ...how.filter(Boolean)].join(", "));
  add("from, to", ...toward(record, hue));
  add("result", record.result ?? "under way");
  add("by", record.actor);
  if (record.reason) add("why", record.reason);
  at("asked for", record.started);
  at("set for", record.at);
  at("stored", record.stored);
  at("settled", record.settled, record.store_to_settled_us === null ? "" : `, ${micros(record.store_to_settled_us)} after the store`);
  at("confirm by", record.confirm_by);
  at("confirmed", record.confirmed);
  at("first packet", more.first_packet_at);
  at("last to old", more.last_packet_to_old_at);
  at("drained", more.drained);
  at("ended", record.ended);
  if (more.word_before && more.word_after) add("word", make("span", { of: "mono", text: `${more.word_before} → ${more.word_after}` }));
  for (const gate of more.gates) add("gate", `${gate.what}: ${gate.passed ? "" : "skipped: "}${gate.why}`);
  for (const hook of record.hooks ?? []) add("hook", `${hook.moment} ${hook.name}: ${hook.outcome ?? "running"}${hook.why ? `: ${hook.why}` : ""}`);
  if (more.bake) {
    const { bake } = more;
    const traffic = (of) => `${of.connections} connections, ${of.resets} resets, ${of.failed} not answered`;
    add("watched", `${span(bake.for_ms)}: ${bake.verdict}; before: ${traffic(bake.before)}; since: ${traffic(bake.seen)}`);
    for (const why of bake.why) add("", make("span", { of: "bad", text: why }));
  }
  if (more.drill) {
    const { drill } = more;
    add("drill", `${span(drill.for_ms)}: ${drill.verdict}; ${drill.lost.resets} resets, ${drill.lost.failed} not answered, of ${drill.lost.connections} connections`);
    for (const why of drill.why) add("", make("span", { of: "bad", text: why }));
  }
  if (record.leftovers > 0) add("leftovers", make("span", { of: "warn", text: `left at the deadline: ${record.leftovers}` }));
  if (record.ended) {
    for (const [colour, { before, after }] of Object.entries(more.traffic)) {
      const meanwhile = (what) => count(after[what] - before[what]);
      add("traffic", `${colour}: ${meanwhile("packets")} packets, ${meanwhile("connections")} connections, ${meanwhile("resets")} resets meanwhile`);
    }
  }
  return list;
}

// ---- changes ----

function refusal(problem) {
  const box = make("div", { of: "refused" });
  box.append(make("p", { of: "bad", text: problem.detail || problem.message || String(problem) }));
  if (problem.blockers?.length) box.append(make("ul", {}, ...problem.blockers.map((text) => make("li", { text }))));
  if (problem.advice) box.append(make("p", { text: problem.advice }));
  return box;
}

function token() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return "page-" + [...bytes].map((it) => it.toString(16).padStart(2, "0")).join("");
}

/** Shows what a change would do or what is in its way, and makes it if somebody says so. */
async function change(verb, name, to, text) {
  const revision = state.status.groups.find((it) => it.name === name)?.revision;
  const [dialog, body, button, close] = ["change", "change-body", "change-make", "change-close"].map($);
  const path = `v1/groups/${encodeURIComponent(name)}/${verb}`;
  const request = { to, if_revision: revision };
  const opened = token();
  dialog.dataset.opened = opened;
  say($("change-title"), `${name}: ${text}?`);
  say(button, text);
  say(close, "Back");
  button.disabled = true;
  $("change-reason").value = "";
  show($("change-why"), false);
  body.replaceChildren(make("p", { text: "Asking the agent what it would do …" }));
  dialog.showModal();
  close.focus();
  // Another dialog may be open by the time of an answer.
  const here = () => dialog.open && dialog.dataset.opened === opened;
  try {
    const answer = await ask(path, { ...request, dry_run: true });
    if (!here()) return;
    if (answer.unchanged && verb !== "abort" && verb !== "confirm") {
      body.replaceChildren(make("p", { text: `Nothing to do: ${answer.to} is live.` }));
      return;
    }
    const intro = answer.steps.length ? "Nothing is in its way. This will be done:" : "Nothing is in its way.";
    body.replaceChildren(make("p", { text: intro }), make("ol", {}, ...answer.steps.map((step) => make("li", { text: step }))));
  } catch (problem) {
    if (here()) body.replaceChildren(make("p", { text: `${VERBS[verb]} would be refused:` }), refusal(problem));
    return;
  }
  show($("change-why"), true);
  button.disabled = false;
  button.focus();
  button.onclick = async () => {
    button.disabled = true;
    show($("change-why"), false);
    const reason = $("change-reason").value.trim() || undefined;
    body.replaceChildren(make("p", { text: "Under way …" }));
    say(close, "Leave it to the agent");
    close.focus();
    try {
      const answer = await ask(path, { ...request, reason, idempotency_key: opened });
      const settled = answer.store_to_settled_us === null ? "" : `, settled ${micros(answer.store_to_settled_us)} after the store`;
      const live = answer.result === "aborted" ? `stopped; ${answer.to} is live` : `${answer.to} is live${settled}`;
      if (here()) body.replaceChildren(make("p", { of: "good", text: `Done: ${live}.` }));
    } catch (problem) {
      if (here()) body.replaceChildren(refusal(problem));
    }
    if (here()) say(close, "Close");
  };
}

$("change-reason").addEventListener("keydown", (event) => {
  // Enter means what the button says, not the first button of the form.
  if (event.key !== "Enter") return;
  event.preventDefault();
  if (!$("change-make").disabled) $("change-make").click();
});
addEventListener("resize", draw);
poll();
