// What an answer looks like: options as bars, attention to the prompts by layer, and over the picture.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element with attributes and children; text is text, never markup. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** Every option with its probability; `before` are those with the gates at 0, where they were asked for. */
export function options(choices, reply, before) {
  const list = element("ul", { class: "options" });
  choices.forEach((choice, place) => {
    const share = reply.probabilities[place];
    const chosen = place === reply.index;
    const fill = element("div", { class: "fill" });
    fill.style.width = `${100 * share}%`;
    const track = element("div", { class: "track", "aria-hidden": "true" }, fill);
    const row = element("li", chosen ? { class: "chosen" } : {});
    const name = chosen ? `✓ ${choice} (chosen)` : choice;
    row.append(element("div", { class: "name" }, element("span", {}, name), element("span", {}, percent(share))), track);
    if (before) {
      const mark = element("div", { class: "mark" });
      mark.style.left = `calc(${100 * before[place]}% - 1px)`;
      track.append(mark);
      const points = 100 * (share - before[place]);
      const sign = points < 0 ? "−" : "+";
      const change = `${percent(before[place])} at gates 0, adapter ${sign}${Math.abs(points).toFixed(1)}`;
      row.append(element("div", { class: "change" }, change));
    }
    list.append(row);
  });
  return list;
}

/** What the prompts add in each layer, as bars. */
function layerBars(found) {
  const highest = Math.max(...found.ratios, 1e-9);
  const count = found.ratios.length, width = 300, height = 70, step = width / Math.max(count, 12);
  const bars = found.ratios.map((ratio, place) => {
    const tall = (height * ratio) / highest;
    return drawn("rect", { class: "layer-bar", x: place * step + step * 0.1, y: height - tall, width: step * 0.8, height: tall });
  });
  const strongest = found.ratios.indexOf(Math.max(...found.ratios));
  const said =
    `Layers ${found.first_layer} to ${found.first_layer + count - 1}, from left to right. The prompts add most in ` +
    `layer ${found.first_layer + strongest}: ${percent(found.ratios[strongest])} of the attention to the text.`;
  return [drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Bars by layer. ${said}` }, ...bars), said];
}

/** Layers down, prompts across; the darker, the more is looked at. */
function heatMap(found, rows, what) {
  const highest = Math.max(...rows.flat(), 1e-9), columns = rows[0].length;
  const left = 28, side = (300 - left) / columns, high = 15;
  const cells = rows.flatMap((row, y) =>
    row.map((value, x) => {
      const title = drawn("title", {}, `layer ${found.first_layer + y}, ${what} ${x + 1}: ${value.toFixed(4)}`);
      const place = { x: left + x * side, y: y * high, width: side, height: high };
      return drawn("rect", { class: "cell", ...place, "fill-opacity": (value / highest).toFixed(3) }, title);
    }),
  );
  const every = Math.ceil(rows.length / 10);
  const labels = rows
    .map((_, y) => drawn("text", { x: 0, y: y * high + high * 0.85 }, String(found.first_layer + y)))
    .filter((_, y) => y % every === 0);
  let best = [0, 0];
  rows.forEach((row, y) => row.forEach((value, x) => (best = value > rows[best[0]][best[1]] ? [y, x] : best)));
  const said =
    `Layers downwards, ${columns} ${what}s across; the stronger the colour, the more is looked at. Most: ${what} ` +
    `${best[1] + 1} in layer ${found.first_layer + best[0]}, ${rows[best[0]][best[1]].toFixed(4)}.`;
  const box = `0 0 300 ${rows.length * high}`;
  return [drawn("svg", { viewBox: box, role: "img", "aria-label": `Heat map. ${said}` }, ...labels, ...cells), said];
}

/** The picture with the shares of one view laid over it. */
function overPicture(view, picture) {
  const [left, top, right, bottom] = view.box;
  const rows = view.shares.length, columns = view.shares[0].length, highest = Math.max(...view.shares.flat(), 1e-9);
  const wide = (right - left) / columns, high = (bottom - top) / rows;
  const cells = view.shares.flatMap((row, y) =>
    row.map((share, x) => {
      const place = { x: left + x * wide, y: top + y * high, width: wide, height: high };
      const title = drawn("title", {}, `row ${y + 1}, column ${x + 1}: ${percent(share)}`);
      return drawn("rect", { class: "cell", ...place, "fill-opacity": ((0.75 * share) / highest).toFixed(3) }, title);
    }),
  );
  const flat = view.shares.flat(), best = flat.indexOf(Math.max(...flat));
  const said =
    `View ${view.view}, ${rows} × ${columns} places. Most is looked at in row ${Math.floor(best / columns) + 1}, ` +
    `column ${(best % columns) + 1}: ${percent(flat[best])} of what is looked at of the picture.`;
  const over = drawn("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", role: "img", "aria-label": said }, ...cells);
  return [element("div", { class: "over-picture" }, element("img", { src: picture, alt: "" }), over), said];
}

function figure([picture, said], title) {
  return [element("h4", {}, title), picture, element("p", { class: "remark" }, said)];
}

/** All that is known of where an answer looked. */
export function attention(found, picture) {
  const part = element("details", { open: "", class: "attention" }, element("summary", {}, "What the answer looks at"));
  if (Math.max(...found.ratios) === 0) {
    part.append(element("p", { class: "remark" }, "At nothing of the adapter: its gates are at 0."));
    return part;
  }
  for (const view of found.picture) part.append(...figure(overPicture(view, picture), "Over the picture"));
  if (picture && !found.picture.length) {
    const said = "Not over the picture: this adapter adds one vector of the whole picture to all its prompts.";
    part.append(element("p", { class: "remark" }, found.pieces ? "Its pieces of the picture have no places to show." : said));
  }
  part.append(...figure(layerBars(found), "What the prompts add, by layer"));
  part.append(...figure(heatMap(found, found.prompts, "prompt"), "Attention to the prompts, times gates"));
  if (found.pieces) part.append(...figure(heatMap(found, found.pieces, "piece"), "Attention to pieces of the picture"));
  return part;
}
