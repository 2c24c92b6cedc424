// Small helpers for building the page. Everything is made with these, so nothing is ever parsed as HTML.

export const $ = (id) => document.getElementById(id);

/** An element: h("button", {class: "quiet", onclick: f}, "Undo"). Children that are null or false are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Paths on a grid of 20, drawn with one stroke.
const ICONS = {
  undo: "M8 5 4 9l4 4M4 9h7.5a4 4 0 0 1 0 8H9",
  redo: "m12 5 4 4-4 4M16 9H8.500a4 4 0 0 0 0 8H11",
  shuffle: "M3 6h3l8 8h3M3 14h3l2-2M12 8l2-2h3M15 3.500 17.500 6 15 8.500M15 11.500l2.500 2.500-2.500 2.500",
  lock: "M5 9h10v8H5zM7 9V6.500a3 3 0 0 1 6 0V9",
  unlock: "M5 9h10v8H5zM7 9V6.500a3 3 0 0 1 5.800-1",
  compare: "M10 3v14M4 5h12v10H4zM6.500 8v4",
  pixels: "M4 4h12v12H4zM4 8h12M4 12h12M8 4v12M12 4v12",
  smooth: "M3 13c3 0 4-7 7-7s4 7 7 7",
  add: "M10 4v12M4 10h12",
  pin: "M4 5h9v9H4zM7 17h9V8M7 8.500h3M8.500 7v3",
  animate: "M4 5h12v10H4zM8.500 8v4l3.500-2z",
  sound: "M4 8v4h3l4 3V5L7 8zM14 7.500a4 4 0 0 1 0 5",
  more: "M3 10h10M10 6.500 13.500 10 10 13.500M17 5v10",
  download: "M10 3v9M6.500 9 10 12.500 13.500 9M4 16.500h12",
  play: "M6.500 4.500v11l9-5.500z",
  pause: "M7 5v10M13 5v10",
  brush: "M16 4 8.500 11.500M8.500 11.500c-2 0-3 1.500-3 3 0 1-.700 1.500-1.500 1.500 3 1 6.500 0 6.500-2.500 0-1-1-2-2-2z",
  erase: "m8 16-4-4 8-8 5 5-7 7zM8 16h8M8 8l5 5",
  clear: "M5 6h10M8 6V4h4v2M6.500 6l.700 10h5.600l.700-10",
  earlier: "M12 5 7 10l5 5",
  later: "m8 5 5 5-5 5",
  remove: "m5.500 5.500 9 9M14.500 5.500l-9 9",
  file: "M6 3h6l3 3v11H6zM12 3v3h3",
  history: "M4 10a6 6 0 1 0 2-4.500L4 7.500M4 4v3.500h3.500M10 7v3l2 1.500",
  sun: "M10 7a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM10 2.500v1.500M10 16v1.500M2.500 10H4M16 10h1.500M4.700 4.700l1 1M14.300 14.300l1 1M4.700 15.300l1-1M14.300 5.700l1-1",
  moon: "M15.500 12A6.500 6.500 0 0 1 8 4.500a6 6 0 1 0 7.500 7.500z",
  auto: "M10 3.500a6.500 6.500 0 1 0 0 13zM10 3.500a6.500 6.500 0 0 1 0 13",
  help: "M7.500 7.500a2.500 2.500 0 1 1 3.500 2.300c-.700.300-1 .800-1 1.700M10 14.500v.100",
  up: "m5 12 5-5 5 5",
  down: "m5 8 5 5 5-5",
  stop: "M6 6h8v8H6z",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon, and its words beside it or read aloud only. */
export function button(name, label, onclick, { words = false, key = "", ...rest } = {}) {
  return h(
    "button",
    {
      type: "button",
      class: words ? "quiet" : "quiet icon",
      title: key ? `${label} (${key})` : words ? null : label,
      "aria-label": label,
      "aria-keyshortcuts": key && key.length === 1 ? key : null,
      onclick,
      ...rest,
    },
    name ? icon(name) : null,
    words ? h("span", {}, label) : null,
  );
}

/** Radio buttons that look like one control. `options`: [value, label]. */
export function segmented(name, legend, options, value, onchange) {
  return h(
    "fieldset",
    { class: "segmented" },
    h("legend", { class: "vh" }, legend),
    options.map(([key, label]) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name, value: key, checked: key === value, onchange: () => onchange(key) }),
        h("span", {}, label),
      ),
    ),
  );
}

/** A labelled slider with its value in figures beside it. */
export function slider(label, { min, max, step, value, oninput, format = String, id }) {
  const figure = h("output", { for: id }, format(value));
  const input = h("input", {
    type: "range", id, min, max, step, value,
    oninput: () => {
      figure.textContent = format(Number(input.value));
      oninput(Number(input.value));
    },
  });
  input.setValue = (v) => {
    input.value = v;
    figure.textContent = format(v);
  };
  const row = h("div", { class: "slider" }, h("label", { for: id }, label), figure, input);
  row.input = input;
  return row;
}

/** A switch: a checkbox that looks the part. */
export function toggle(label, checked, onchange, id) {
  const input = h("input", { type: "checkbox", id, checked, onchange: () => onchange(input.checked) });
  const row = h("label", { class: "switch" }, input, h("span", {}, label));
  row.input = input;
  return row;
}

let speaking = 0;

/** Said to a screen reader, seen by nobody. */
export function say(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => ($("spoken").textContent = text), 150);
}
