// The messages of one room, in the order of their ids, and who came and went between them.

import { byId, clone, inWords, showAvatar, speaker } from "./dom.js";

const GROUP_MS = 5 * 60_000;
const ACTIVITY_MS = 5 * 60_000;
const NEAR_END_PX = 64;

const timeOfDay = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const fullTime = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });
const calendarDay = new Intl.DateTimeFormat(undefined, {
  weekday: "long",
  day: "numeric",
  month: "long",
});

function dayName(date) {
  const today = new Date();
  const yesterday = new Date(today);
  yesterday.setDate(today.getDate() - 1);
  if (date.toDateString() === today.toDateString()) return "Today";
  if (date.toDateString() === yesterday.toDateString()) return "Yesterday";
  return calendarDay.format(date);
}

/** Messages that are still on their way have no id and stay at the end. */
const idOf = (row) => Number(row.dataset.messageId ?? Infinity);

/**
 * me: the id of the user; onRetry(clientId): "Try again" was pressed.
 */
export function createTranscript(me, onRetry) {
  const log = byId("log");
  const list = byId("messages");
  const empty = byId("empty");
  const pill = byId("new-pill");
  const speak = speaker(byId("spoken-delivery"));
  const byMessageId = new Map();
  const byClientId = new Map();
  let activity = null;
  let unseen = 0;
  let pinned = true;

  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;

  function scrollToEnd() {
    pinned = true;
    log.scrollTop = log.scrollHeight;
    markSeen();
  }

  function markSeen() {
    unseen = 0;
    pill.hidden = true;
  }

  function countUnseen() {
    unseen += 1;
    pill.querySelector("span").textContent = unseen === 1 ? "1 new message" : `${unseen} new messages`;
    pill.hidden = false;
  }

  function neighbour(row, direction) {
    let other = row[direction];
    while (other && !other.matches(".message")) other = other[direction];
    return other;
  }

  /** Day heading, and whether the row continues what the same person said just before. */
  function arrange(row) {
    const previous = neighbour(row, "previousElementSibling");
    const at = new Date(row.dataset.createdAt);
    const before = previous && new Date(previous.dataset.createdAt);
    const newDay = !before || at.toDateString() !== before.toDateString();
    const heading = row.querySelector(".day");
    heading.hidden = !newDay;
    if (newDay) heading.firstElementChild.textContent = dayName(at);
    row.classList.toggle(
      "grouped",
      !newDay &&
        row.previousElementSibling === previous &&
        previous.dataset.authorId === row.dataset.authorId &&
        at - before < GROUP_MS,
    );
  }

  /** Put a row where its id belongs; one that is there already is not touched. */
  function place(row) {
    const id = idOf(row);
    let after = null;
    for (let other = list.lastElementChild; other; other = other.previousElementSibling) {
      if (other === row || !other.matches(".message")) continue;
      if (idOf(other) <= id) break;
      after = other;
    }
    if (row.parentNode !== list || neighbour(row, "nextElementSibling") !== after) {
      const follower = neighbour(row, "nextElementSibling");
      list.insertBefore(row, after);
      if (follower) arrange(follower);
    }
    arrange(row);
    const next = neighbour(row, "nextElementSibling");
    if (next) arrange(next);
    empty.hidden = true;
  }

  function addFoot(row, clientId) {
    const foot = clone("delivery-template");
    foot.querySelector(".retry").addEventListener("click", () => onRetry(clientId));
    row.querySelector(".message-body").append(foot);
  }

  /** Below a message of this browser: whether it is out.  Of those sent, the last one says so. */
  function showDelivery(row, delivery, problem) {
    row.dataset.delivery = delivery;
    row.querySelector(".delivery").textContent = {
      pending: "Sending…",
      sent: "Sent",
      failed: `Not sent. ${problem}`,
    }[delivery];
    row.querySelector(".retry").hidden = delivery !== "failed";
    if (delivery === "failed") speak(`Your message was not sent. ${problem}`);
    if (delivery !== "sent") return;
    for (const older of list.querySelectorAll('[data-delivery="sent"]')) {
      if (older !== row) older.querySelector(".message-foot")?.remove();
    }
  }

  function build(message) {
    const row = clone("message-template");
    row.dataset.authorId = message.author.id;
    showAvatar(row.querySelector(".avatar"), message.author.icon);
    row.querySelector(".author").textContent = message.author.name;
    row.querySelector(".message-text").textContent = message.text;
    return row;
  }

  function showTime(row, createdAt) {
    const at = new Date(createdAt);
    const time = row.querySelector("time");
    row.dataset.createdAt = createdAt;
    time.dateTime = createdAt;
    time.textContent = timeOfDay.format(at);
    time.title = fullTime.format(at);
  }

  function insert(message, row) {
    row.dataset.messageId = message.id;
    byMessageId.set(message.id, row);
    showTime(row, message.created_at);
    place(row);
  }

  /**
   * Show a stored message, or let the waiting one of this browser become it.
   *
   * Showing a message again changes nothing, so it does not matter by which ways it comes.
   * Returns whether it is news to the reader.
   */
  function add(message) {
    if (byMessageId.has(message.id)) return false;
    const waiting = byClientId.get(message.client_id);
    const isNews = !waiting && message.author.id !== me;
    const stay = pinned;
    insert(message, waiting ?? build(message));
    if (waiting) {
      byClientId.delete(message.client_id);
      showDelivery(waiting, "sent");
    }
    if (stay) scrollToEnd();
    else if (isNews) countUnseen();
    return isNews;
  }

  /** Show a message that is being sent, or could not be. */
  function addPending(message, delivery, problem) {
    let row = byClientId.get(message.client_id);
    if (!row) {
      row = build(message);
      addFoot(row, message.client_id);
      byClientId.set(message.client_id, row);
      showTime(row, message.created_at);
      place(row);
    }
    showDelivery(row, delivery, problem);
    scrollToEnd();
  }

  /** Replace everything by the history of a room.  History is not announced. */
  function show(messages, label) {
    log.setAttribute("aria-live", "off");
    log.setAttribute("aria-label", label);
    clear();
    empty.hidden = messages.length > 0;
    for (const message of messages) insert(message, build(message));
    scrollToEnd();
    requestAnimationFrame(() => setTimeout(() => log.setAttribute("aria-live", "polite")));
  }

  function clear() {
    byMessageId.clear();
    byClientId.clear();
    activity = null;
    list.replaceChildren();
    empty.hidden = true;
    markSeen();
  }

  /** Stand-ins until the history of the next room is here. */
  function showSkeleton(label) {
    log.setAttribute("aria-live", "off");
    log.setAttribute("aria-label", label);
    clear();
    for (let count = 0; count < 4; count += 1) list.append(clone("skeleton-template"));
  }

  /** Note that somebody came or went.  Notes in a row become one line. */
  function note(name, userId, came) {
    const stay = pinned;
    const last = list.lastElementChild;
    if (!activity || activity.row !== last || Date.now() - activity.since > ACTIVITY_MS) {
      activity = { row: clone("activity-template"), since: Date.now(), people: new Map() };
      const waiting = [...list.children].find((row) => row.matches(".message") && idOf(row) === Infinity);
      list.insertBefore(activity.row, waiting ?? null);
    }
    const person = activity.people.get(userId) ?? { name, first: came };
    activity.people.set(userId, { ...person, last: came });
    activity.row.textContent = describe([...activity.people.values()]);
    if (stay) scrollToEnd();
  }

  function describe(people) {
    const parts = [
      [true, true, "joined"],
      [false, false, "left"],
      [true, false, "came by and left"],
      [false, true, "left and came back"],
    ];
    return parts
      .map(([first, last, verb]) => {
        const names = people.filter((each) => each.first === first && each.last === last);
        return names.length ? `${inWords(names.map((each) => each.name))} ${verb}` : "";
      })
      .filter(Boolean)
      .join(" · ");
  }

  log.addEventListener("scroll", () => {
    pinned = atEnd();
    if (pinned) markSeen();
  });
  // A keyboard that opens, or a field that grows, must not push the last message out of sight.
  new ResizeObserver(() => pinned && scrollToEnd()).observe(log);
  pill.addEventListener("click", () => {
    scrollToEnd();
    log.focus();
  });

  return {
    add,
    addPending,
    note,
    show,
    showSkeleton,
    /** The newest id that is shown, or 0. */
    lastId: () => Math.max(0, ...byMessageId.keys()),
  };
}
