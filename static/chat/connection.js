// The connection to the server: its state in words, and what to do when it has ended for good.

import { byId, speaker } from "./dom.js";

/** The states of pusher-js: a word for the badge, and a sentence where one helps. */
const STATES = {
  initialized: { word: "Connecting" },
  connecting: { word: "Connecting" },
  connected: { word: "Connected" },
  unavailable: {
    word: "Unavailable",
    text: "The connection is gone. Trying again; whatever is missed will be loaded afterwards.",
  },
  failed: {
    word: "Failed",
    text: "This browser or network does not let WebSockets through. New messages appear after a reload.",
    action: "Reload",
  },
  disconnected: {
    word: "Disconnected",
    text: "The connection has ended.",
    action: "Connect again",
  },
};

/** pusher:error and close code of a connection that somebody ended on purpose. */
const TERMINATED = 4009;

/**
 * Open the connection and keep its badge and banner right.
 *
 * onTerminated() is called when a moderator has ended the connection,
 * onRefused(status) when the site has refused to say who the user is.
 */
export function connect({ key, options }, { onTerminated, onRefused }) {
  const badge = byId("state");
  const banner = byId("banner");
  const action = byId("banner-action");
  const speak = speaker(byId("spoken-connection"));
  if (!globalThis.Pusher) {
    banner.hidden = false;
    byId("banner-text").textContent = "pusher-js is not installed; npm ci installs it.";
    throw new Error("pusher-js is missing");
  }
  const pusher = new Pusher(key, options);
  let lastError = null;

  function show(state) {
    const { word, text, action: label } = STATES[state] ?? { word: state };
    badge.dataset.state = state;
    badge.textContent = word;
    banner.hidden = !text;
    byId("banner-text").textContent = text ?? "";
    action.hidden = !label;
    action.textContent = label ?? "";
    speak(text ? `${word}. ${text}` : word);
  }

  pusher.connection.bind("error", (event) => {
    lastError = event?.error?.data?.code ?? event?.data?.code ?? lastError;
  });
  pusher.connection.bind("state_change", ({ current }) => {
    show(current);
    if (current === "connected") lastError = null;
    if (current === "disconnected" && lastError === TERMINATED) onTerminated();
  });
  pusher.user.bind("pusher:signin_error", ({ status }) => onRefused(status));
  action.addEventListener("click", () => {
    if (pusher.connection.state === "failed") location.reload();
    else pusher.connect();
  });

  show(pusher.connection.state);
  pusher.signin();
  return pusher;
}
