"use strict";

// The API is below the page, wherever the server is mounted.
const BASE = location.pathname.endsWith("/") ? location.pathname : `${location.pathname}/`;
const POLL = 2000; // ms between two looks at the server
const SVG = "http://www.w3.org/2000/svg";

const at = (id) => document.getElementById(id);

function make(name, attributes = {}, ...inner) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inner);
  return element;
}

// ---------------------------------------------------------------- the server

class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

let asking = null;

function askForKey(note) {
  // One dialog, however many requests were refused at once.
  asking ??= new Promise((resolve) => {
    at("door-note").textContent = note;
    at("door").showModal();
    at("door").onclose = () => {
      sessionStorage.setItem("ark-key", at("key").value);
      asking = null;
      resolve();
    };
  });
  return asking;
}

async function ask(path, options = {}) {
  for (let tries = 0; ; tries++) {
    const key = sessionStorage.getItem("ark-key");
    const headers = { ...options.headers };
    if (key) headers.authorization = `Bearer ${key}`;
    let reply;
    try {
      reply = await fetch(BASE + path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal("The server does not answer.", 0);
    }
    if (reply.ok) return reply;
    const told = await reply.json().catch(() => null);
    const message = told?.error?.message ?? `The server answers ${reply.status}.`;
    if (reply.status !== 401 || options.quiet) throw new Refusal(message, reply.status);
    await askForKey(tries || key ? message : "");
  }
}

function askJSON(path, body, options = {}) {
  const headers = { "content-type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(body), ...options });
}

async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      held += value;
      const lines = held.split("\n");
      held = lines.pop();
      for (const line of lines) {
        const data = line.startsWith("data:") ? line.slice(5).trim() : "";
        if (!data || data === "[DONE]") continue;
        const event = JSON.parse(data);
        if (event.error) throw new Refusal(event.error.message, 200);
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// ---------------------------------------------------------------- chat

function newId() {
  // randomUUID is there in secure contexts only, and a server in one's own network has no certificate.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

let session = newId();
let turns = [];
let running = null;

function beginSession() {
  running?.abort();
  session = newId();
  turns = [];
  at("log").replaceChildren();
  at("session").textContent = session;
  drawCost();
  at("message").focus();
}

function busy(yes) {
  at("send").disabled = yes;
  at("stop").hidden = !yes;
}

async function say(text) {
  const log = at("log");
  const asked = make("p", { class: "said user" }, text);
  const thinking = make("details", { hidden: "" }, make("summary", {}, "Reasoning"));
  const thought = make("div", { class: "thought" });
  thinking.append(thought);
  const answer = make("p", { class: "said" });
  const note = make("p", { class: "turn-note" }, "…");
  log.append(asked, thinking, answer, note);
  log.scrollTop = log.scrollHeight;
  const controller = new AbortController();
  running = controller;
  const own = session;
  busy(true);
  const sent = performance.now();
  let first = null;
  let usage = null;
  try {
    const body = {
      model: at("chat-model").value,
      messages: [{ role: "user", content: text }],
      ark_stateful: own,
      stream: true,
      stream_options: { include_usage: true },
    };
    const reply = await askJSON("v1/chat/completions", body, { signal: controller.signal });
    for await (const chunk of events(reply)) {
      usage = chunk.usage ?? usage;
      const delta = chunk.choices?.[0]?.delta ?? {};
      if ((delta.content || delta.reasoning_content) && first === null) first = performance.now() - sent;
      if (delta.reasoning_content) {
        thinking.hidden = false;
        thought.append(delta.reasoning_content);
      }
      if (delta.content) answer.append(delta.content);
      log.scrollTop = log.scrollHeight;
    }
    if (own !== session) return;
    const prompt = usage?.prompt_tokens ?? 0;
    const cached = usage?.prompt_tokens_details?.cached_tokens ?? 0;
    turns.push({ prompt, read: prompt - cached, first: first ?? 0 });
    note.textContent = `${cached} of ${prompt} prompt tokens were there already; first token after ${Math.round(first ?? 0)} ms`;
    drawCost();
  } catch (error) {
    const stopped = error.name === "AbortError";
    note.classList.add("error");
    note.textContent = stopped ? "Stopped: the session forgets this turn." : error.message;
  } finally {
    if (running === controller) {
      running = null;
      busy(false);
    }
  }
}

function drawCost() {
  at("cost").hidden = !turns.length;
  const tall = 90;
  const step = 46;
  const most = Math.max(1, ...turns.map((turn) => turn.prompt));
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("width", String(turns.length * step + 4));
  drawing.setAttribute("height", String(tall + 34));
  drawing.setAttribute("role", "img");
  const told = turns.map((turn, i) => `turn ${i + 1}: ${turn.read} read, ${turn.prompt} without a session, first token after ${Math.round(turn.first)} ms`);
  drawing.setAttribute("aria-label", told.join("; "));
  const shape = (name, attributes, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
    if (text !== undefined) element.textContent = text;
    drawing.append(element);
  };
  turns.forEach((turn, i) => {
    const bar = (tokens, left, kind) => {
      const height = Math.max(1, (tokens / most) * tall);
      shape("rect", { class: `bar ${kind}`, x: i * step + left, y: tall - height + 2, width: 16, height });
    };
    bar(turn.read, 4, "with");
    bar(turn.prompt, 22, "without");
    shape("text", { x: i * step + 4, y: tall + 16 }, `${i + 1}`);
    shape("text", { x: i * step + 4, y: tall + 30 }, `${Math.round(turn.first)} ms`);
  });
  at("chart").replaceChildren(drawing);
}

at("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("message").value;
  if (!text.trim() || running) return;
  at("message").value = "";
  say(text);
});
at("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("chat-form").requestSubmit();
  }
});
at("stop").addEventListener("click", () => running?.abort());
at("new-session").addEventListener("click", beginSession);
at("chat-model").addEventListener("change", beginSession);

// ---------------------------------------------------------------- speech

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;

async function transcribe(file) {
  const note = at("speech-note");
  const player = at("player");
  if (player.src) URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(file);
  player.hidden = false;
  at("segments").replaceChildren();
  note.classList.remove("error");
  note.textContent = `Listening to ${file.name} …`;
  const form = new FormData();
  form.append("file", file);
  form.append("model", at("speech-model").value);
  form.append("response_format", "verbose_json");
  try {
    const begun = performance.now();
    const found = await (await ask("v1/audio/transcriptions", { method: "POST", body: form })).json();
    const seconds = (performance.now() - begun) / 1000;
    note.textContent = `${found.duration.toFixed(1)} s of sound, written down in ${seconds.toFixed(1)} s`;
    for (const segment of found.segments ?? []) {
      const time = make("button", { type: "button" }, `${clock(segment.start)} to ${clock(segment.end)}`);
      time.addEventListener("click", () => {
        player.currentTime = segment.start;
        player.play();
      });
      at("segments").append(make("li", {}, time, segment.text.trim()));
    }
    if (!found.text.trim()) note.textContent += ": nothing was said";
  } catch (error) {
    note.classList.add("error");
    note.textContent = error.message;
  }
}

at("recording").addEventListener("change", (event) => {
  if (event.target.files.length) transcribe(event.target.files[0]);
});
for (const kind of ["dragenter", "dragover"]) {
  at("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) at("drop").addEventListener(kind, () => at("drop").classList.remove("over"));
at("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) transcribe(event.dataTransfer.files[0]);
});

// ---------------------------------------------------------------- texts

function cosine(one, other) {
  let product = 0;
  let a = 0;
  let b = 0;
  for (let i = 0; i < one.length; i++) {
    product += one[i] * other[i];
    a += one[i] * one[i];
    b += other[i] * other[i];
  }
  return a && b ? product / Math.sqrt(a * b) : 0;
}

async function compare() {
  const lines = at("lines").value.split("\n").filter((line) => line.trim());
  const note = at("texts-note");
  const table = at("matrix");
  note.classList.remove("error");
  note.textContent = "";
  if (!lines.length) return;
  try {
    const body = { model: at("texts-model").value, input: lines, encoding_format: "float" };
    const found = await (await askJSON("v1/embeddings", body)).json();
    const vectors = found.data.map((item) => item.embedding);
    const head = make("tr", {}, make("td"), ...lines.map((_, i) => make("th", { scope: "col" }, String(i + 1))));
    const rows = lines.map((line, i) => {
      const cells = vectors.map((vector) => {
        const near = cosine(vectors[i], vector);
        const cell = make("td", {}, near.toFixed(2));
        cell.style.background = `color-mix(in srgb, var(--with) ${Math.max(0, near * 45).toFixed(0)}%, transparent)`;
        return cell;
      });
      return make("tr", {}, make("th", { scope: "row" }, `${i + 1}. ${line}`), ...cells);
    });
    table.replaceChildren(table.caption, make("thead", {}, head), make("tbody", {}, ...rows));
    table.hidden = false;
  } catch (error) {
    note.classList.add("error");
    note.textContent = error.message;
  }
}

at("texts-form").addEventListener("submit", (event) => {
  event.preventDefault();
  compare();
});

// ---------------------------------------------------------------- state

function fill(id, models) {
  const select = at(id);
  const chosen = select.value;
  const names = models.map((model) => model.id);
  if ([...select.options].map((option) => option.value).join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    if (names.includes(chosen)) select.value = chosen;
  }
}

function describe({ state = "", download } = {}) {
  const megabytes = (bytes) => Math.floor(bytes / 1e6);
  return download ? `${state}, ${megabytes(download.received)} of ${megabytes(download.total)} MB downloaded` : state;
}

function showModels(models) {
  const of = (task) => models.filter((model) => model.ark?.task === task);
  fill("chat-model", of("chat"));
  fill("speech-model", of("transcription"));
  fill("texts-model", of("embedding"));
  for (const [part, task] of [["chat", "chat"], ["speech", "transcription"], ["texts", "embedding"]]) {
    at(part).hidden = !of(task).length;
    document.querySelector(`nav a[href="#${part}"]`).hidden = at(part).hidden;
  }
  const head = ["Model", "Task", "State", "Also called"].map((name) => make("th", { scope: "col" }, name));
  const rows = models.map((model) => {
    const { task = "", aliases = [] } = model.ark ?? {};
    const cells = [task, describe(model.ark), aliases.join(", ")].map((text) => make("td", {}, text));
    return make("tr", {}, make("th", { scope: "row" }, model.id), ...cells);
  });
  at("models").replaceChildren(at("models").caption, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  const loading = models.filter((model) => model.ark?.state !== "ready");
  at("state").textContent = loading.length ? loading.map((model) => `${model.id} is ${describe(model.ark)}`).join(", ") : "Ready";
}

function sum(text, name) {
  let found = 0;
  for (const line of text.split("\n")) {
    if (line.startsWith(`${name} `) || line.startsWith(`${name}{`)) found += Number(line.slice(line.lastIndexOf(" ")));
  }
  return found;
}

function showFigures(text) {
  const of = (name) => sum(text, `ark:${name}`);
  const read = of("prefix_cache_queries_total");
  const share = read ? `${Math.round((100 * of("prefix_cache_hits_total")) / read)} %` : "none yet";
  const figures = {
    "Requests running": of("num_requests_running"),
    "Requests waiting": of("num_requests_waiting"),
    Sessions: of("sessions"),
    "KV in memory": `${(of("kv_cache_bytes") / 2 ** 20).toFixed(1)} MB`,
    "Prompt tokens from cache": share,
    "Tokens written": of("generation_tokens_total"),
  };
  const pairs = Object.entries(figures).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value))));
  at("figures").replaceChildren(...pairs);
}

async function look() {
  try {
    const listed = await (await ask("v1/models")).json();
    showModels(listed.data.filter((model) => !model.ark?.alias_of));
    showFigures(await (await ask("metrics")).text());
  } catch (error) {
    at("state").textContent = error.message;
  }
}

async function watch() {
  for (;;) {
    // A page that nobody looks at asks nothing.
    if (document.visibilityState === "visible") await look();
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

at("session").textContent = session;
watch();
