// Light, dark, or as the system is.

import { $, icon } from "./dom.js";
import { set, state, watch } from "./state.js";

const NEXT = { auto: "light", light: "dark", dark: "auto" };
const LOOKS = { auto: "auto", light: "sun", dark: "moon" };

export const turn = () => set({ theme: NEXT[state.theme] ?? "auto" });

export function begin() {
  $("theme").addEventListener("click", turn);
  watch(
    ["theme"],
    () => {
      if (state.theme === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = state.theme;
      $("theme").replaceChildren(icon(LOOKS[state.theme] ?? "auto"));
      const label = `Theme: ${state.theme === "auto" ? "as the system" : state.theme}`;
      $("theme").setAttribute("aria-label", label);
      $("theme").title = label;
    },
    true,
  );
}
