// "Bob is typing…": client events, told to the others at most every two seconds.

import { byId, inWords } from "./dom.js";

const EVENT = "client-typing";
const TELL_EVERY_MS = 2_000;
const FORGET_AFTER_MS = 5_000;

/** namesOf(ids): the names of present members. */
export function createTyping(namesOf) {
  const line = byId("typing");
  const timers = new Map();
  let channel = null;
  let toldAt = 0;

  function show() {
    const names = namesOf([...timers.keys()]);
    if (names.length === 0) line.textContent = "";
    else if (names.length > 3) line.textContent = "Several people are typing…";
    else line.textContent = `${inWords(names)} ${names.length === 1 ? "is" : "are"} typing…`;
  }

  function forget(userId) {
    clearTimeout(timers.get(userId));
    if (timers.delete(userId)) show();
  }

  return {
    forget,
    /** Listen on the channel of a room; the room before is forgotten. */
    follow(next) {
      for (const timer of timers.values()) clearTimeout(timer);
      timers.clear();
      toldAt = 0;
      channel = next;
      channel.bind(EVENT, (_, { user_id: userId } = {}) => {
        clearTimeout(timers.get(userId));
        timers.set(userId, setTimeout(() => forget(userId), FORGET_AFTER_MS));
        show();
      });
      show();
    },
    /** The user has written something. */
    tell() {
      const now = Date.now();
      if (!channel?.subscribed || now - toldAt < TELL_EVERY_MS) return;
      toldAt = now;
      channel.trigger(EVENT, {});
    },
  };
}
