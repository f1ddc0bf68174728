// Notices that concern this user alone.

import { byId, clone, showIcon } from "./dom.js";

const MOST = 4;
const BRIEFLY_MS = 8_000;

/**
 * Show a notice: a few words in bold, and a sentence.
 *
 * It stays until it is dismissed, unless it only confirms what the user has just done.
 */
export function notify(icon, title, text, { briefly = false } = {}) {
  const region = byId("toasts");
  const toast = clone("toast-template");
  showIcon(toast.querySelector("svg"), icon);
  toast.querySelector("strong").textContent = title;
  toast.querySelector("p span").textContent = text;
  toast.querySelector("button").addEventListener("click", () => toast.remove());
  region.append(toast);
  if (briefly) setTimeout(() => toast.remove(), BRIEFLY_MS);
  while (region.children.length > MOST) region.firstElementChild.remove();
}
