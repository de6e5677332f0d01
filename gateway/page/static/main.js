// Puts the page together: the model's card, the views and what the keyboard does.

import {ask} from "./api.js";
import {setUpCode} from "./code_dialog.js";
import {byId, element} from "./dom.js";
import {askForKey, keptKey, setUpKey} from "./key.js";
import {LiveView} from "./live.js";
import {Playground} from "./playground.js";
import {SettingsPanel} from "./settings_panel.js";
import {setUpTheme} from "./theme.js";

const VIEWS = ["chat", "completion", "live"];
const STATUS_EVERY_MS = 5000;
const RETRY_MS = 2000;
const STATUS = {
  ready: ["ready", "Ready"],
  starting: ["waiting", "Starting"],
  draining: ["waiting", "Stopping"],
  stalled: ["waiting", "Stalled"],
};

let model = "";
let view = "chat";
const panel = new SettingsPanel(byId("settings"), () => playgrounds.forEach((each) => each.show()));
const options = {panel, model: () => model};
const chat = new Playground(byId("view-chat"), {mode: "chat", ...options});
const completion = new Playground(byId("view-completion"), {mode: "completion", ...options});
const playgrounds = [chat, completion];
const live = new LiveView(byId("view-live"));

setUpTheme();
setUpCode();
setUpKey(() => loadModel());
for (const name of VIEWS) byId(`tab-${name}`).addEventListener("click", () => show(name));
document.querySelector("[role=tablist]").addEventListener("keydown", moveBetweenTabs);
document.addEventListener("keydown", onKey);
show("chat");
watchStatus();
loadModel();

/** Find out what is served; ask for a key if one is needed, and go on asking a server that is away. */
async function loadModel() {
  try {
    const {data} = await (await ask("/v1/models")).json();
    describe(data[0]);
  } catch (error) {
    if (error.status === 401) askForKey(keptKey() ? "This key is not known here." : "");
    else if (error.status === 403) tellAboutModel(error.message);
    else setTimeout(loadModel, RETRY_MS);
  }
}

function describe(card) {
  model = card.id;
  document.title = `${model} · Unisono`;
  panel.describe(card);
  const can = {chat: card.capabilities.includes("chat"), completion: card.capabilities.includes("completion")};
  for (const name of ["chat", "completion"]) byId(`tab-${name}`).disabled = !can[name];
  if (!can.chat && !can.completion) {
    tellAboutModel(`${model} makes ${card.task === "embed" ? "vectors" : "scores"}, no text: the API's description says how to ask it.`);
    show("live");
  } else if (!can[view] && view !== "live") {
    show(can.chat ? "chat" : "completion");
  }
  for (const each of playgrounds) each.show();
  if (view !== "live" && matchMedia("(min-width: 60rem)").matches) playgroundOf(view).field.focus();
}

function tellAboutModel(words) {
  for (const each of playgrounds) each.welcome.replaceChildren(element("p", {textContent: words}));
}

function show(name) {
  view = name;
  for (const each of VIEWS) {
    byId(`view-${each}`).hidden = each !== name;
    byId(`tab-${each}`).setAttribute("aria-selected", String(each === name));
    byId(`tab-${each}`).tabIndex = each === name ? 0 : -1;
  }
  byId("settings").hidden = name === "live";
  document.querySelector("main").classList.toggle("without-settings", name === "live");
  if (name === "live") live.start();
  else live.stop();
  if (name !== "live") panel.setMode(name);
}

const playgroundOf = (name) => (name === "chat" ? chat : completion);

function moveBetweenTabs(event) {
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (!step) return;
  const open = VIEWS.filter((name) => !byId(`tab-${name}`).disabled);
  const next = open[(open.indexOf(view) + step + open.length) % open.length];
  show(next);
  byId(`tab-${next}`).focus();
}

function onKey(event) {
  if (view === "live" || document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    playgroundOf(view).send();
  } else if (event.key === "Escape") {
    playgroundOf(view).stop();
  }
}

/** Show whether new work is taken, as long as somebody looks. */
async function watchStatus() {
  if (!document.hidden) {
    const [state, words] = await status();
    byId("status").dataset.state = state;
    if (byId("status").textContent !== words) byId("status").textContent = words;
  }
  setTimeout(watchStatus, STATUS_EVERY_MS);
}

/** groups: what /readyz tells of them to those who may ask the model. */
function noteGroups(groups) {
  panel.setGroups([...new Set(groups.map((group) => group.name))].sort());
  live.names = new Map(groups.map((group) => [String(group.group), group.name]));
}

async function status() {
  try {
    noteGroups((await (await ask("/readyz")).json()).groups ?? []);
    return STATUS.ready;
  } catch (error) {
    if (error.status === 503) return STATUS[error.state] ?? ["waiting", "Not ready"];
    return ["away", "Not reachable"];
  }
}
