#include "admin/console_page.hpp"

namespace tessera::admin {

std::string_view console_html() {
  return R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tessera</title>
<link rel="stylesheet" href="/console.css">
</head>
<body>
<header>
  <h1>Tessera</h1>
  <form id="login"><input id="token" type="password" placeholder="token" autocomplete="off" aria-label="token"><button>use</button></form>
  <span id="state" role="status"></span>
</header>
<main>
  <section><h2>Databases</h2><div id="databases"></div></section>
  <section><h2>Shards</h2><div id="shards"></div></section>
  <section><h2>Pools</h2><div id="pools"></div></section>
  <section><h2>Sessions</h2><div id="sessions"></div></section>
</main>
<script src="/console.js"></script>
</body>
</html>
)html";
}

std::string_view console_css() {
  return R"css(:root { color-scheme: light dark; font: 14px/1.45 system-ui, sans-serif; }
body { margin: 0; }
header { display: flex; gap: 1rem; align-items: center; padding: .6rem 1.2rem; border-bottom: 1px solid #8885; }
h1 { font-size: 1.15rem; margin: 0; }
h2 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
main { padding: 0 1.2rem 2rem; }
section div { overflow-x: auto; }
table { border-collapse: collapse; white-space: nowrap; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #8883; }
th { font-weight: 600; opacity: .7; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.bad td { color: #c22; }
#state { opacity: .7; }
)css";
}

std::string_view console_js() {
  return R"js("use strict";
const views = {
  databases: ["/v1/databases", "databases", ["database", "engine", "clients", "logins", "login_failures", "paused", "problem"]],
  shards: ["/v1/shards", "shards", ["database", "shard", "primary", "healthy", "connections", "last_error"]],
  pools: ["/v1/pools", "pools", ["database", "user", "shard", "idle", "busy", "connecting", "waiting", "open", "limit", "longest_wait", "last_error"]],
  sessions: ["/v1/sessions?limit=200", "sessions", ["id", "database", "user", "address", "application_name", "state", "shard", "pinned", "age", "statements", "tls"]],
};
const token = () => sessionStorage.getItem("token") || "";

function cell(tag, value) {
  const element = document.createElement(tag);
  if (typeof value === "number") element.className = "number";
  if (typeof value === "number" && !Number.isInteger(value)) value = value.toFixed(1);
  element.textContent = value === undefined || value === null ? "" : String(value);
  return element;
}

function table(rows, columns) {
  const element = document.createElement("table");
  const head = element.createTHead().insertRow();
  for (const column of columns) head.append(cell("th", column.replaceAll("_", " ")));
  const body = element.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    if (row.healthy === false) line.className = "bad";
    for (const column of columns) line.append(cell("td", row[column]));
  }
  return element;
}

async function show(id) {
  const [path, key, columns] = views[id];
  const headers = token() ? {Authorization: "Bearer " + token()} : {};
  const answer = await fetch(path, {headers, cache: "no-store"});
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error || answer.status);
  document.getElementById(id).replaceChildren(table(body[key], columns));
}

async function refresh() {
  const state = document.getElementById("state");
  try {
    await Promise.all(Object.keys(views).map(show));
    state.textContent = "as of " + new Date().toLocaleTimeString();
  } catch (error) {
    state.textContent = error.message;
  }
}

document.getElementById("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", document.getElementById("token").value);
  document.getElementById("token").value = "";
  refresh();
});
refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 2000);
)js";
}

}  // namespace tessera::admin
