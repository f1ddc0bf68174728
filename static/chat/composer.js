// The field in which messages are written.  What is begun in one room waits there.

import { byId } from "./dom.js";

const WARN_BELOW = 200;

/** onSend(text), onTyping(). */
export function createComposer({ onSend, onTyping }) {
  const form = byId("composer");
  const field = byId("message-text");
  const left = byId("characters-left");
  const drafts = new Map();
  let room = null;

  /** Grow with the text, where the browser does not do so by itself. */
  function fit() {
    if (CSS.supports("field-sizing", "content")) return;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  }

  function showLeft() {
    const count = field.maxLength - field.value.length;
    left.textContent = count < WARN_BELOW ? `${count} characters left.` : "";
  }

  function fill(text) {
    field.value = text;
    fit();
    showLeft();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (text) {
      fill("");
      onSend(text);
    }
    field.focus();
  });
  field.addEventListener("keydown", (event) => {
    // While an input method is composing, Enter confirms its suggestion.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  field.addEventListener("input", () => {
    fit();
    showLeft();
    if (field.value.trim()) onTyping();
  });

  return {
    open(next) {
      // At first there may be a text that the browser has kept across a reload.
      drafts.set((room ?? next).slug, field.value);
      room = next;
      byId("message-label").textContent = `Message to ${room.title}`;
      field.placeholder = `Message ${room.title}`;
      fill(drafts.get(room.slug) ?? "");
    },
  };
}
