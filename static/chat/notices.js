// Notices that concern this user alone.  They stay until they are dismissed.

import { byId, clone, showIcon } from "./dom.js";

const MOST = 4;

/** Show a notice: a few words in bold, and a sentence. */
export function notify(icon, title, text) {
  const region = byId("toasts");
  const toast = clone("toast-template");
  showIcon(toast.querySelector("svg"), icon);
  toast.querySelector("strong").textContent = title;
  toast.querySelector("p span").textContent = text;
  toast.querySelector("button").addEventListener("click", () => toast.remove());
  region.append(toast);
  while (region.children.length > MOST) region.firstElementChild.remove();
}
