// The keyboard: one table of what each key does, which the help shows as it is.

import { $, h, toggle } from "./dom.js";
import { set, state } from "./state.js";

const table = []; // {keys, label, group, act, when}
const mac = /mac|iphone|ipad/i.test(navigator.platform);
const MOD = mac ? "⌘" : "Ctrl";

/** Registers a shortcut. `keys`: "s", "?", "Mod+z", "Mod+Shift+z" …; several, separated by spaces, do the same. */
export function shortcut(group, keys, label, act, when = () => true) {
  for (const one of keys.split(" ")) table.push({ keys: one, group, label, act, when });
}

/** One that is handled elsewhere, for the help only. */
export const mention = (group, keys, label) => table.push({ keys, group, label, act: null, when: () => true });

const typing = (target) =>
  target instanceof HTMLTextAreaElement || (target instanceof HTMLInputElement && /text|number|search/.test(target.type));

function name(event) {
  const key = event.key === " " ? "Space" : event.key;
  const held = event.ctrlKey || event.metaKey;
  return `${held ? "Mod+" : ""}${held && event.shiftKey ? "Shift+" : ""}${held ? key.toLowerCase() : key}`;
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing || event.altKey || $("help").open) return;
  const pressed = name(event);
  const single = !pressed.startsWith("Mod+") && pressed !== "Escape";
  if (single && (typing(event.target) || !state.letters)) return;
  if (pressed === "Space" && event.target.closest("button, summary, [role=option], input, label")) return;
  if (pressed.startsWith("Mod+") && /z|y$/.test(pressed) && typing(event.target) && event.target.value) return;
  const found = table.find((entry) => entry.act && entry.keys === pressed && entry.when());
  if (!found) return;
  event.preventDefault();
  found.act(event);
});

const shown = (keys) =>
  keys.split("+").map((key) => h("kbd", {}, { Mod: MOD, ArrowLeft: "←", ArrowRight: "→" }[key] ?? (key.length === 1 ? key.toUpperCase() : key)));

export function help() {
  const dialog = $("help");
  if (dialog.open) {
    dialog.close();
    return;
  }
  const groups = [...new Set(table.map((entry) => entry.group))];
  dialog.replaceChildren(
    h("header", {}, h("h2", { id: "help-title" }, "Keyboard"),
      h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close")),
    h("div", { class: "groups" },
      groups.map((group) => {
        const labels = [...new Set(table.filter((entry) => entry.group === group).map((entry) => entry.label))];
        return h("section", {}, h("h3", {}, group),
          h("dl", {}, labels.map((label) => h("div", {}, h("dt", {}, label),
            h("dd", {}, table.filter((e) => e.group === group && e.label === label).flatMap((e, i) => [i ? " or " : "", ...shown(e.keys)]))))));
      }),
    ),
    h("footer", {}, toggle("Single letters are shortcuts", state.letters, (letters) => set({ letters }), "letters")),
  );
  dialog.showModal();
}
