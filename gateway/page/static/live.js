// The groups, live: what `unisono top` shows, out of /metrics; without a right to that, their loads.

import {ask} from "./api.js";
import {secondsText} from "./answer.js";
import {chart} from "./chart.js";
import {element, meter} from "./dom.js";
import {askForKey} from "./key.js";
import {Span, parse} from "./prometheus.js";

const EVERY_MS = 1000;
const KEPT = 61; // a minute of steps
const PREFIX = "unisono_";

export class LiveView {
  #samples = [];
  #timer = null;
  names = new Map(); // of groups, by number

  constructor(root) {
    this.root = root;
  }

  start() {
    if (this.#timer === null) this.#look();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  async #look() {
    this.#timer = setTimeout(() => this.#look(), EVERY_MS);
    if (document.hidden) return;
    try {
      const text = await (await ask("/metrics", {accept: "text/plain"})).text();
      this.#samples = [...this.#samples, parse(text, performance.now() / 1000)].slice(-KEPT);
      if (this.#timer !== null) this.#show();
    } catch (error) {
      this.#samples = [];
      if (error.status === 401 || error.status === 403) await this.#showLoads(error);
      else this.#tell(error.message);
    }
  }

  #show() {
    const samples = this.#samples;
    const now = samples.at(-1);
    const recent = new Span(samples.at(-4) ?? samples[0], now);
    const minute = new Span(samples[0], now);
    const {version = "", model = ""} = now.rows(`${PREFIX}build_info`)[0]?.labels ?? {};
    const up = Date.now() / 1000 - now.total(`${PREFIX}start_time_seconds`);
    const rates = samples.slice(1).map((after, i) => new Span(samples[i], after).rate(`${PREFIX}engine_generation_tokens_total`));
    this.root.replaceChildren(
      element("h2", {textContent: model}),
      element("p", {class: "sub", textContent: `Unisono ${version}, up ${duration(up)}`}),
      tiles(now, recent, minute),
      chart("Output tokens a second", "the last minute", rates, KEPT - 1),
      panel("Groups", groupTable(now, recent, this.names)),
      panel("Processes", processTable(now, recent)));
  }

  /** What /readyz tells those who have a key but no right to figures. */
  async #showLoads(refused) {
    let groups = null;
    try {
      groups = (await (await ask("/readyz")).json()).groups;
    } catch (error) {
      if (error.status === 503) return this.#tell("No group takes work right now.");
      return this.#tell(error.message);
    }
    const button = element("button", {textContent: "Give a key", onclick: () => askForKey()});
    if (!groups) return this.#tell("Groups are shown to those who have a key.", button);
    const rows = groups.map((group) => ({
      group: String(group.group),
      name: group.name,
      state: stateCell(group.ready ? "ready" : "down"),
      batch: String(group.running),
      waiting: String(group.waiting),
      "KV cache": usage(group.total_blocks ? 1 - group.free_blocks / group.total_blocks : 0),
      progress: `${secondsText(group.seconds_since_progress)} ago`,
    }));
    const why = refused.status === 403 ? "This key has no scope admin" : "Without a key of scope admin";
    this.root.replaceChildren(element("h2", {textContent: "Groups"}),
      element("p", {class: "sub", textContent: `${why}: rates, latencies and processes are not shown.`}), panel("Load", table(rows)));
  }

  #tell(words, ...more) {
    this.root.replaceChildren(element("h2", {textContent: "Groups"}), element("p", {class: "sub", textContent: words}), ...more);
  }
}

function tiles(now, recent, minute) {
  const time = (family, share) => {
    const value = minute.quantile(`${PREFIX}${family}`, share);
    return value === null ? "–" : secondsText(value);
  };
  const both = (family) => [time(family, 0.5), `p99 ${time(family, 0.99)}`];
  const tile = (name, [value, unit]) => element("div", {class: "tile"}, element("dt", {textContent: name}),
    element("dd", {}, value, element("small", {textContent: unit})));
  const rate = (family) => [number(recent.rate(`${PREFIX}${family}_total`)), "tokens/s"];
  const queued = now.total(`${PREFIX}num_requests_queued`) + now.total(`${PREFIX}num_requests_waiting`);
  return element("dl", {class: "tiles"},
    tile("Output", rate("engine_generation_tokens")),
    tile("Prompt", rate("engine_prompt_tokens")),
    tile("Running", [number(now.total(`${PREFIX}num_requests_running`)), `${number(queued)} waiting`]),
    tile("First token", both("time_to_first_token_seconds")),
    tile("Between tokens", both("inter_token_latency_seconds")));
}

function groupTable(now, recent, names) {
  const hasNames = new Set(names.values()).size > 1;
  const groups = now.rows(`${PREFIX}group_ready`).map((row) => row.labels.group).sort((a, b) => a - b);
  return table(groups.map((group) => {
    const of = {group};
    const state = now.rows(`${PREFIX}group_state`, of).find((row) => row.value)?.labels.state ?? "down";
    const steps = recent.growth(`${PREFIX}engine_steps_total`, of);
    const queries = recent.growth(`${PREFIX}prefix_cache_queries_total`, of);
    const hits = recent.growth(`${PREFIX}prefix_cache_hits_total`, of);
    return {
      group,
      ...(hasNames ? {name: names.get(group) ?? "–"} : {}),
      state: stateCell(state),
      batch: number(now.total(`${PREFIX}num_requests_running`, of)),
      waiting: number(now.total(`${PREFIX}num_requests_waiting`, of)),
      "tokens/s": number(recent.rate(`${PREFIX}engine_generation_tokens_total`, of)),
      "KV cache": usage(now.total(`${PREFIX}kv_cache_usage_perc`, of)),
      "cache hits": queries ? `${Math.round(100 * hits / queries)} %` : "–",
      step: steps ? secondsText(recent.growth(`${PREFIX}engine_step_seconds_total`, of) / steps) : "–",
      restarts: number(now.total(`${PREFIX}group_restarts_total`, of)),
    };
  }));
}

function processTable(now, recent) {
  return table(now.rows(`${PREFIX}process_resident_memory_bytes`).map(({labels: {process}, value}) => ({
    process,
    CPU: `${Math.round(100 * recent.rate(`${PREFIX}process_cpu_seconds_total`, {process}))} %`,
    memory: `${number(value / 2 ** 20)} MiB`,
  })));
}

function table(rows) {
  const names = Object.keys(rows[0] ?? {});
  const cell = (row, name) => element("td", {data: {label: name}}, row[name]);
  return element("table", {},
    element("thead", {}, element("tr", {}, ...names.map((name) => element("th", {scope: "col", textContent: name})))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...names.map((name) => cell(row, name))))));
}

const panel = (name, inside) => element("section", {class: "panel"}, element("h3", {textContent: name}), inside);
const stateCell = (state) => element("span", {class: "state", data: {state}, textContent: state.replaceAll("_", " ")});
const usage = (share) => element("span", {}, meter(share), `${Math.round(100 * share)} %`);
const number = (value) => value.toLocaleString("en", {maximumFractionDigits: value < 10 && value % 1 ? 1 : 0});

function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}
