// What is asked for, and when. How things look on the page is in view.js.
import { Filters } from "./filters.js";
import { Fields } from "./fields.js";
import { el, showAnswer, showBundle, showChips, showProblem } from "./view.js";

const TYPING_MS = 150;
const find = (id) => document.getElementById(id);

let token = "";
let bundle = null;
let waiting = null; // the timer of the next query
let asking = null; // what cancels the query under way
const hidden = [];
const fields = new Fields(find("fields"), ask);
const filters = new Filters(find("filters"), find("add-filter"), ask);

async function call(path, body, signal) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const reply = await fetch(path, {
    method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal,
  });
  const found = await reply.json().catch(() => ({ message: reply.statusText }));
  if (!reply.ok) throw Object.assign(new Error(found.message), { status: reply.status });
  return found;
}

function request() {
  return {
    user: { fields: fields.values() },
    k: Number(find("k").value),
    includeAttributes: true,
    eligibility: {
      exclude: hidden.map((item) => item.id),
      includeSeen: find("include-seen").checked,
      where: filters.predicates(),
    },
  };
}

// Asks once nothing has changed for a moment; only the answer to the last question is shown.
function ask(delayMs = TYPING_MS) {
  clearTimeout(waiting);
  waiting = setTimeout(query, delayMs);
}

async function query() {
  asking?.abort();
  const mine = (asking = new AbortController());
  find("results").setAttribute("aria-busy", "true");
  const began = performance.now();
  try {
    const reply = await call("api/recommend", request(), mine.signal);
    const elapsedMs = performance.now() - began;
    showProblem("");
    const { itemIds, attributes } = reply.recommendation;
    filters.learn(itemIds, attributes, bundle.title);
    showAnswer(reply, bundle, elapsedMs, { like: fields.history && like, hide });
  } catch (error) {
    if (mine.signal.aborted) return;
    if (error.status === 401) return askForToken(error.message);
    showProblem(error instanceof TypeError ? "The server does not answer." : error.message);
  }
  if (asking === mine) find("results").setAttribute("aria-busy", "false");
}

function like(item) {
  fields.history.add(item);
  ask(0);
}

function hide(item) {
  hidden.push(item);
  showHidden();
  ask(0);
}

function showHidden() {
  find("hidden-items").hidden = !hidden.length;
  showChips(find("hidden-items").querySelector("ul"), hidden, (item) => {
    hidden.splice(hidden.indexOf(item), 1);
    showHidden();
    ask(0);
  });
}

function askForToken(message) {
  find("playground").hidden = true;
  find("token-form").hidden = false;
  find("token-form").querySelector(".hint").textContent = token ? message
    : "It is sent to this server only, and forgotten when the page is closed.";
  find("token").focus();
}

async function start() {
  try {
    const info = await call("api/info");
    bundle = info.bundleInfo;
    showBundle(bundle);
    fields.show(bundle.userFields, info.users);
    find("k").max = Math.min(50, info.maxK);
    find("token-form").hidden = true;
    find("playground").hidden = false;
    ask(0);
  } catch (error) {
    if (error.status === 401) return askForToken(error.message);
    find("facts").replaceChildren(el("li", {}, error.status === 503
      ? "The bundle is still loading; this page waits for it."
      : `The server does not answer (${error.message}); this page tries again.`));
    setTimeout(start, 1000);
  }
}

find("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  find("token").value = "";
  start();
});
find("query").addEventListener("submit", (event) => event.preventDefault());
find("k").addEventListener("input", () => {
  find("k-value").textContent = find("k").value;
  ask();
});
find("include-seen").addEventListener("change", () => ask(0));
find("clear").addEventListener("click", () => {
  fields.clear();
  filters.clear();
  hidden.length = 0;
  showHidden();
  ask(0);
});
start();
