"use strict";
// Sorting, filtering and the browser of questions. Text from the data goes into text nodes alone, never into markup.
(() => {
  const element = (name, properties = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in made) made[key] = value; else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  };

  // Tables.
  const number = (text) => {
    const match = /^[<>+]?\s*([-+]?[0-9][0-9.]*)\s*([KMBT]?)/.exec(text);
    return match ? parseFloat(match[1]) * { "": 1, K: 1e3, M: 1e6, B: 1e9, T: 1e12 }[match[2]] : null;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const text = (row) => row.cells[column] ? row.cells[column].textContent.trim() : "";
      const rows = [...table.tBodies[0].rows];
      const figures = rows.every((row) => text(row) === "-" || text(row) === "" || number(text(row)) !== null);
      const now = head.getAttribute("aria-sort");
      const descending = now ? now === "ascending" : figures;  // figures begin with the highest
      rows.sort((a, b) => {
        if (!figures) return text(a).localeCompare(text(b));
        const [x, y] = [number(text(a)), number(text(b))];
        return x === null || y === null ? 0 : x - y;
      });
      if (descending) rows.reverse();
      if (figures) {  // what has no figure comes last, whichever way
        rows.sort((a, b) => (number(text(a)) === null) - (number(text(b)) === null));
      }
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      table.tBodies[0].append(...rows);
    }));
  }
  for (const input of document.querySelectorAll("input[data-filters]")) {
    const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
    const count = input.parentElement.querySelector(".count");
    input.addEventListener("input", () => {
      const words = input.value.toLocaleLowerCase().split(/\s+/);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLocaleLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      count.textContent = input.value ? `${shown} of ${rows.length} rows` : "";
    });
  }

  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
  });

  // Questions.
  const PAGE = 20;
  const [PID, QUESTION, CONTEXT, OPTIONS, ANSWER, SUBJECT, CONTEXTS, GRADE, TOPIC, SKILL, SOLUTION, PICTURE, ANSWERS] = Array(13).keys();
  const data = JSON.parse(document.getElementById("data").textContent);
  const blocks = [...document.querySelectorAll("script.pictures")];
  const unpacked = new Map();
  const CHUNK = 256;
  const picture = (index) => {
    const block = Math.floor(index / CHUNK);
    if (!unpacked.has(block)) unpacked.set(block, JSON.parse(blocks[block].textContent));
    return unpacked.get(block)[index % CHUNK];
  };
  const field = (id) => document.getElementById(id);
  const right = (row, system) => row[ANSWERS][system][0] === row[ANSWER];
  const texts = new Map();
  const text = (row) => {
    if (!texts.has(row)) texts.set(row, [row[PID], row[QUESTION], row[CONTEXT], ...row[OPTIONS], row[TOPIC], row[SKILL]].join("\n").toLocaleLowerCase());
    return texts.get(row);
  };
  const fits = (row, outcome) => {
    const [kind, system] = outcome.split(" ");
    const all = row[ANSWERS].map((_, place) => right(row, place));
    if (kind === "right") return all[system];
    if (kind === "wrong") return !all[system];
    if (kind === "unread") return row[ANSWERS][system][5] === 1;
    if (kind === "differ") return new Set(row[ANSWERS].map((answer) => answer[0])).size > 1;
    if (kind === "part") return all.includes(true) && all.includes(false);
    if (kind === "missed") return !all.includes(true);
    return true;
  };
  let chosen = data.questions;
  let page = 0;

  const card = (row) => {
    const answers = row[ANSWERS];
    const head = element("tr", {}, element("th", { scope: "col" }, "option"));
    data.systems.forEach((name) => head.append(element("th", { scope: "col" }, element("bdi", {}, name))));
    const body = element("tbody");
    row[OPTIONS].forEach((option, index) => {
      const label = element("th", { scope: "row" }, `${index < 26 ? String.fromCharCode(65 + index) : index + 1}. `, element("bdi", {}, option));
      if (index === row[ANSWER]) label.append(" ", element("span", { className: "yes" }, "right answer"));
      const line = element("tr", {}, label);
      answers.forEach(([choice, shares]) => {
        const cell = element("td");
        if (shares.length) cell.append(`${(100 * shares[index]).toFixed(1)} % `);
        if (choice === index) {
          cell.append(element("span", { className: index === row[ANSWER] ? "yes" : "no" }, index === row[ANSWER] ? "✓ chosen" : "✗ chosen"));
        }
        line.append(cell);
      });
      body.append(line);
    });
    const item = element("li");
    if (row[PICTURE] >= 0) item.append(element("img", { src: picture(row[PICTURE]), alt: `Picture of question ${row[PID]}` }));
    item.append(
      element("h3", { dir: "auto" }, row[QUESTION]),
      element("p", { className: "about" }, "Question ", element("bdi", {}, row[PID]), ` · ${[row[SUBJECT], row[CONTEXTS].join(" "), row[GRADE] ? `grade ${row[GRADE]}` : "", row[TOPIC], row[SKILL]].filter(Boolean).join(" · ")}`),
    );
    if (row[CONTEXT]) item.append(element("p", { className: "context", dir: "auto", tabIndex: 0 }, row[CONTEXT]));
    item.append(element("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": `Options of question ${row[PID]}` }, element("table", {}, element("thead", {}, head), body)));
    const said = (system, verb, words, ...after) => element("p", { className: "written", dir: "auto", tabIndex: 0 }, element("bdi", {}, data.systems[system]), verb, element("q", {}, element("bdi", {}, words)), ...after);
    answers.forEach(([choice, , written, rule, explanation, unread], system) => {
      if (unread) item.append(element("p", { className: "no" }, element("bdi", {}, data.systems[system]), `: the answer could not be read${choice < 0 ? "" : ", and was drawn at random"}`));
      else if (choice < 0) item.append(element("p", { className: "no" }, element("bdi", {}, data.systems[system]), ": no answer"));
      if (written) item.append(said(system, " wrote: ", written, ...(rule ? [element("span", { className: "about" }, " (read by the rule ", element("q", {}, element("bdi", {}, rule)), ")")] : [])));
      if (explanation) item.append(said(system, " explains: ", explanation));
    });
    if (row[SOLUTION]) item.append(element("details", {}, element("summary", {}, "Solution"), element("p", { className: "context", dir: "auto", tabIndex: 0 }, row[SOLUTION])));
    return item;
  };
  const show = () => {
    const pages = Math.max(1, Math.ceil(chosen.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    field("questions").replaceChildren(...chosen.slice(page * PAGE, (page + 1) * PAGE).map(card));
    field("found").textContent = `${chosen.length} of ${data.questions.length} questions`;
    field("page").textContent = `page ${page + 1} of ${pages}`;
    field("before").disabled = page === 0;
    field("after").disabled = page === pages - 1;
  };
  const choose = () => {
    const words = field("words").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const [subject, context, outcome] = ["subject", "context", "outcome"].map((id) => field(id).value);
    chosen = data.questions.filter((row) => (!subject || row[SUBJECT] === subject)
      && (!context || row[CONTEXTS].includes(context))
      && (!outcome || fits(row, outcome))
      && words.every((word) => text(row).includes(word)));
    page = 0;
    show();
  };
  const turn = (step) => { page += step; show(); field("found").scrollIntoView(); };
  let waiting;
  field("words").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(choose, 150); });
  for (const id of ["subject", "context", "outcome"]) field(id).addEventListener("change", choose);
  field("choose").addEventListener("submit", (event) => event.preventDefault());
  field("before").addEventListener("click", () => turn(-1));
  field("after").addEventListener("click", () => turn(1));
  show();
})();
