// The page asks the server's own routes, /v1/models and /v1/answer, and no other address.

import { attention, element, options } from "/page/draw.js";

const at = (id) => document.getElementById(id);
const form = at("form");
let picture = null; // as a data URI
let models = [];
let running = null; // AbortController of the question that is being answered
let asked = 0;

// --- the server

function headers() {
  const token = at("token").value.trim();
  return { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
}

async function refusal(response) {
  let said = `the server answered with ${response.status}.`;
  try {
    said = (await response.json()).error.message;
  } catch {
    /* no JSON: the status has to do */
  }
  const error = new Error(said);
  error.status = response.status;
  return error;
}

async function call(path, body, signal) {
  let response;
  try {
    const more = body ? { method: "POST", body: JSON.stringify(body) } : {};
    response = await fetch(path, { headers: headers(), signal, ...more });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server cannot be reached; see whether mm-adapter serve still runs.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Yield what a stream of events holds; its end without [DONE] is an error. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the server has ended the answer early.");
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const found = JSON.parse(data);
      if (found.error) throw new Error(found.error.message);
      yield found;
    }
  }
}

// --- the picture

function show(uri, name) {
  picture = uri;
  at("preview").hidden = at("remove").hidden = !uri;
  if (uri) at("preview").src = uri;
  else at("preview").removeAttribute("src");
  at("picture-hint").textContent = uri ? name : "Drop a picture here, paste one, or choose a file.";
}

function take(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) {
    tell("", `${file.name} is no picture; choose a PNG, JPEG, WebP, GIF, BMP or TIFF file.`);
    return;
  }
  const reader = new FileReader();
  reader.onload = () => show(reader.result, file.name);
  reader.onerror = () => tell("", `${file.name} cannot be read.`);
  reader.readAsDataURL(file);
  tell("", "");
}

at("file").addEventListener("change", (event) => take(event.target.files[0]));
at("remove").addEventListener("click", () => {
  at("file").value = "";
  show(null);
  at("file").focus();
});
const drop = at("drop");
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  at("file").value = "";
  take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) {
    event.preventDefault();
    take(file);
  }
});

async function loadExamples() {
  const list = await (await call("/page/examples.json")).json();
  at("examples").replaceChildren(
    ...list.map((example) => {
      const button = element("button", { type: "button" });
      if (example.image) button.append(element("img", { src: example.image, alt: "" }));
      button.append(example.question);
      button.addEventListener("click", () => {
        at("file").value = "";
        show(example.image, example.image ? "Picture of the example" : "");
        at("question").value = example.question;
        at("choices").value = example.choices.join("\n");
        at("context").value = example.context;
        tell("The example is filled in; press Ask.", "");
      });
      return element("li", {}, button);
    }),
  );
}

// --- the models

async function loadModels() {
  try {
    models = (await (await call("/v1/models")).json()).data;
  } catch (error) {
    if (error.status === 401) {
      at("token-part").hidden = false;
      tell("", at("token").value ? error.message : "This server wants its token; give it above.");
      at("token").focus();
      return;
    }
    throw error;
  }
  const first = models.find((model) => model.takes.attention || model.takes.image) ?? models[0];
  at("models").replaceChildren(
    ...models.map((model) => {
      const box = element("input", { type: "checkbox", value: model.id, checked: model === first ? "" : null });
      const notes = [model.takes.image ? "sees pictures" : "text alone", model.takes.gate_scale ? null : "no gates to turn"];
      return element("label", {}, box, element("span", {}, `${model.id} `, element("small", {}, notes.filter(Boolean).join(", "))));
    }),
  );
  at("gates-part").hidden = !models.some((model) => model.takes.gate_scale);
  tell("Nothing has been asked yet.", "");
}

at("use-token").addEventListener("click", () => loadModels().catch(unexpected));
at("token").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    at("use-token").click();
  }
});

// --- asking

function tell(status, error) {
  at("status").textContent = status;
  at("error").textContent = error && error[0].toUpperCase() + error.slice(1);
}

function unexpected(error) {
  tell("", error.message);
}

/** Ask one model and fill its column; return what is to be said of it. */
async function ask(model, question, scale, wanted, column, signal) {
  const remarks = [];
  const body = { ...question, model: model.id };
  if (body.image && !model.takes.image) {
    delete body.image;
    remarks.push("Asked without the picture: it takes none.");
  }
  const gated = model.takes.gate_scale;
  if (gated) body.gate_scale = scale;
  else if (scale < 1) remarks.push("Its gates cannot be turned; it answers as it is.");
  if (wanted && model.takes.attention) body.attention = true;
  const text = element("p", { class: "text" });
  column.append(...remarks.map((remark) => element("p", { class: "remark" }, remark)), text);
  let reply;
  if (body.choices) {
    const closed = gated && scale > 0 ? call("/v1/answer", { ...body, gate_scale: 0, attention: false }, signal) : null;
    closed?.catch(() => null); // what went wrong is said of the question itself
    reply = await (await call("/v1/answer", body, signal)).json();
    const before = closed ? (await (await closed).json()).probabilities : null;
    text.replaceWith(options(body.choices, reply, before));
  } else {
    text.setAttribute("aria-busy", "true");
    for await (const piece of events(await call("/v1/answer", { ...body, stream: true }, signal))) {
      if (piece.text !== undefined) text.append(piece.text);
      else reply = piece;
    }
    text.textContent = reply.choice || "(nothing was written)";
    text.removeAttribute("aria-busy");
  }
  if (reply.explanation) column.append(element("h4", {}, "Explanation"), element("p", { class: "text" }, reply.explanation));
  const { waited, computed } = reply.timing;
  column.append(element("p", { class: "remark" }, `${(waited + computed).toFixed(2)} s, of which ${waited.toFixed(2)} s waiting`));
  if (reply.attention) column.append(attention(reply.attention, body.image));
  else if (wanted) column.append(element("p", { class: "remark" }, "What it looks at is not shown: it has no gated prompts."));
  const share = body.choices ? `, ${(100 * reply.probabilities[reply.index]).toFixed(1)} %` : "";
  const short = reply.choice.length > 300 ? `${reply.choice.slice(0, 300)} …` : reply.choice; // this is read aloud
  return `${model.id}: ${short}${share}`;
}

async function askAll() {
  const lines = at("choices").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const chosen = [...at("models").querySelectorAll("input:checked")].map((box) => models.find((one) => one.id === box.value));
  if (!at("question").value.trim()) return tell("", "There is no question; write one.");
  if (lines.length === 1) return tell("", "There is one option; give at least two, or none.");
  if (!chosen.length) return tell("", "Nobody is to answer; tick at least one model.");
  running?.abort();
  const own = (running = new AbortController());
  const question = { question: at("question").value, max_new_tokens: Number(at("length").value) || 64 };
  if (lines.length) question.choices = lines;
  if (at("context").value.trim()) question.context = at("context").value;
  if (picture) question.image = picture;
  const scale = Number(at("gates").value);
  at("stop").disabled = false;
  tell("Asking …", "");
  asked += 1;
  const columns = chosen.map((model, place) => {
    const title = element("h3", { id: `column-${place}` }, model.id + (model.takes.gate_scale ? `, gates at ${scale.toFixed(2)}` : ""));
    return element("article", { "aria-labelledby": `column-${place}` }, title);
  });
  const keptHeight = at("columns").offsetHeight; // so that nothing jumps while the slider is turned
  at("columns").style.minHeight = `${keptHeight}px`;
  at("columns").replaceChildren(...columns);
  const results = await Promise.allSettled(
    chosen.map((model, place) => ask(model, question, scale, at("attention").checked, columns[place], own.signal)),
  );
  if (own !== running) return; // something else has been asked since
  at("columns").style.minHeight = "";
  at("stop").disabled = true;
  running = null;
  results.forEach((result, place) => {
    if (result.status === "fulfilled") return;
    const stopped = result.reason.name === "AbortError";
    columns[place].append(element("p", { class: stopped ? "remark" : "wrong" }, stopped ? "Stopped." : result.reason.message));
    if (result.reason.status === 401) at("token-part").hidden = false;
  });
  const said = results.filter((result) => result.status === "fulfilled").map((result) => result.value);
  const failed = results.find((result) => result.status === "rejected" && result.reason.name !== "AbortError");
  tell(said.join("; ") || (own.signal.aborted ? "Stopped." : ""), failed ? failed.reason.message : "");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  askAll().catch(unexpected);
  if (matchMedia("(max-width: 60rem)").matches) at("answers").scrollIntoView();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
at("stop").addEventListener("click", () => {
  running?.abort();
  at("ask").focus();
});
at("gates").addEventListener("input", () => (at("gates-value").textContent = Number(at("gates").value).toFixed(2)));
at("gates").addEventListener("change", () => {
  if (asked) askAll().catch(unexpected);
});

loadModels().catch(unexpected);
loadExamples().catch(() => at("examples").replaceChildren(element("li", {}, "The examples cannot be shown.")));
