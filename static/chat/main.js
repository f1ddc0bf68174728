// The chat page: puts its parts together and moves between rooms.

import { ApiError, request } from "./api.js";
import { createComposer } from "./composer.js";
import { connect } from "./connection.js";
import { byId } from "./dom.js";
import { createModeration } from "./moderation.js";
import { notify } from "./notices.js";
import { createPeople } from "./people.js";
import { createTranscript } from "./transcript.js";
import { createTyping } from "./typing.js";

/**
 * How far before the newest known message a client starts to catch up.
 *
 * Ids are given when a row is inserted and seen when it is committed, so a slightly older one
 * may appear late.  Messages that are known already are recognised.
 */
const OVERLAP = 20;
const OUTSIDE_MS = 3_000;

const config = JSON.parse(byId("chat-config").textContent);
const rooms = new Map(config.rooms.map((room) => [room.slug, room]));
/** Messages that are not stored yet, by client id: room, message, delivery, problem. */
const outbox = new Map();

let room = null;
let channel = null;
let unread = 0;

const transcript = createTranscript(config.me.id, (clientId) => send(outbox.get(clientId)));
const moderation = createModeration(config.kickUrl);
const people = createPeople({
  mayKick: config.mayKick,
  mayNotify: config.mayNotify,
  onKick(id, name) {
    people.closeDrawer();
    moderation.ask(id, name);
  },
  onNotify: placeOrder,
});
const typing = createTyping(people.names);
const composer = createComposer({ onSend: compose, onTyping: typing.tell });

const pusher = connect(JSON.parse(byId("realtime-config").textContent), {
  onTerminated: () =>
    showEnd({
      heading: "You have been disconnected",
      text:
        "A moderator has ended your connection to the chat. Until you come back you are not " +
        "in any room, and new messages are not shown. What has been written is kept.",
      wayBack: "Come back",
    }),
  onRefused: explainRefusal,
});

// Rooms

function showTitle() {
  document.title = `${unread ? `(${unread}) ` : ""}${room.title} · Realtime chat`;
}

/** Enter a room.  messages: its history, where the page has brought it along. */
function openRoom(next, messages) {
  if (channel) {
    channel.unbind_all();
    pusher.unsubscribe(channel.name);
  }
  room = next;
  unread = 0;
  showTitle();
  byId("room-title").textContent = room.title;
  byId("room-description").textContent = room.description;
  for (const link of document.querySelectorAll("[data-room]")) {
    if (link.dataset.room === room.slug) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  composer.open(room);
  people.clear();
  const loaded = messages ? Promise.resolve(messages) : load(room.messagesUrl);
  if (!messages) transcript.showSkeleton(`Messages in ${room.title}`);
  enter(room, loaded);
}

async function load(url) {
  return (await request(url)).messages;
}

async function enter(entered, loaded) {
  follow(pusher.subscribe(entered.channel), loaded);
  try {
    const messages = await loaded;
    if (room !== entered) return;
    transcript.show(messages, `Messages in ${entered.title}`);
  } catch (error) {
    if (room !== entered) return;
    transcript.show([], `Messages in ${entered.title}`);
    explain(error, "The messages could not be loaded.");
  }
  for (const entry of outbox.values()) {
    if (entry.room === entered) transcript.addPending(entry.message, entry.delivery, entry.problem);
  }
}

function follow(next, loaded) {
  channel = next;
  typing.follow(channel);
  const isCurrent = () => channel === next;
  channel.bind("pusher:subscription_succeeded", async (members) => {
    people.show(members);
    await loaded.catch(() => {});
    if (isCurrent()) await catchUp();
  });
  channel.bind("pusher:subscription_error", ({ status }) => {
    if (status === 403) explainRefusal(status);
    else setTimeout(() => isCurrent() && explainOutside(), OUTSIDE_MS);
  });
  channel.bind("pusher:member_added", (member) => {
    people.add(member);
    transcript.note(people.nameOf(member), member.id, true);
  });
  channel.bind("pusher:member_removed", (member) => {
    people.remove(member);
    typing.forget(member.id);
    transcript.note(people.nameOf(member), member.id, false);
  });
  channel.bind("message", async (message) => {
    typing.forget(message.author.id);
    await loaded.catch(() => {});
    if (isCurrent()) receive(message);
  });
}

function receive(message) {
  outbox.delete(message.client_id);
  const isNews = transcript.add(message);
  if (isNews && document.hidden) {
    unread += 1;
    showTitle();
  }
}

/** Load what was stored while nobody told us: events reach only those who are connected. */
async function catchUp() {
  const current = room;
  let after = Math.max(0, transcript.lastId() - OVERLAP);
  try {
    for (;;) {
      const { messages, more } = await request(`${current.messagesUrl}?after=${after}`);
      if (room !== current) return;
      messages.forEach(receive);
      if (!more) return;
      after = messages.at(-1).id;
    }
  } catch (error) {
    if (room === current) explain(error, "Missed messages could not be loaded.");
  }
}

// Messages

/** A version 4 UUID; crypto.randomUUID exists on https pages only. */
function newClientId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function compose(text) {
  const message = {
    client_id: newClientId(),
    author: config.me,
    text,
    created_at: new Date().toISOString(),
  };
  const entry = { room, message };
  outbox.set(message.client_id, entry);
  send(entry);
}

/** Send a message.  Repeating it is safe: the server knows it by its client id. */
async function send(entry) {
  if (!entry) return;
  const { message } = entry;
  showDelivery(entry, "pending");
  try {
    const stored = await request(entry.room.messagesUrl, {
      text: message.text,
      client_id: message.client_id,
      socket_id: pusher.connection.socket_id ?? null,
    });
    outbox.delete(message.client_id);
    if (room === entry.room) transcript.add(stored);
  } catch (error) {
    if (!outbox.has(message.client_id)) return; // it arrived after all
    showDelivery(entry, "failed", error.message);
    if (isLoggedOut(error)) goToLogin();
  }
}

function showDelivery(entry, delivery, problem) {
  entry.delivery = delivery;
  entry.problem = problem;
  if (room === entry.room) transcript.addPending(entry.message, delivery, problem);
}

// Notices for one user

async function placeOrder(userId, name) {
  people.closeDrawer();
  try {
    await request(config.noticeUrl.replace("UID", encodeURIComponent(userId)), {});
    if (name) notify("tick", `Notice sent to ${name}`, "Nobody else received it.", { briefly: true });
  } catch (error) {
    explain(error, "The order could not be placed.");
  }
}

byId("order-button").addEventListener("click", () => placeOrder(config.me.id));
pusher.user.bind("order-notice", ({ order, text }) => notify("parcel", `Order ${order}`, text));

// Ends and refusals

const isLoggedOut = (error) => error instanceof ApiError && error.status === 403;

function goToLogin() {
  location.assign(`${config.loginUrl}?next=${encodeURIComponent(location.pathname)}`);
}

/** Say what failed; somebody who is no longer logged in is taken to the login page. */
function explain(error, text) {
  if (isLoggedOut(error)) goToLogin();
  else notify("warning", text, error.message);
}

/** The site will not say who we are: either the session is over, or the user is banned. */
async function explainRefusal(status) {
  if (status !== 403) return;
  pusher.disconnect();
  try {
    await request(room.messagesUrl);
  } catch (error) {
    explain(error, "This room could not be entered.");
    return;
  }
  showEnd({
    heading: "You cannot come in right now",
    text:
      "A moderator has closed the chat to your account. If you think this is a mistake, " +
      "ask an administrator of the site.",
    wayBack: "Try again",
  });
}

/** A refusal for an old connection is followed by a proper entry; this one was not. */
function explainOutside() {
  if (channel.subscribed || pusher.connection.state !== "connected") return;
  notify("warning", "This room could not be entered.", "Reload the page to try again.");
}

function showEnd({ heading, text, wayBack }) {
  people.closeDrawer();
  byId("kick-dialog").close();
  byId("app").hidden = true;
  byId("ended").hidden = false;
  byId("ended-heading").textContent = heading;
  byId("ended-text").textContent = text;
  byId("ended-return").textContent = wayBack;
  byId("ended-heading").focus();
}

byId("ended-return").addEventListener("click", () => {
  byId("ended").hidden = true;
  byId("app").hidden = false;
  people.clear();
  pusher.connect();
  byId("message-text").focus();
});

// Getting about

for (const link of document.querySelectorAll("[data-room]")) {
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    const next = rooms.get(link.dataset.room);
    if (next === room) return;
    history.pushState(null, "", next.url);
    openRoom(next);
  });
}
addEventListener("popstate", () => {
  const next = config.rooms.find(({ url }) => url === location.pathname) ?? config.rooms[0];
  if (next !== room) openRoom(next);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden || !unread) return;
  unread = 0;
  showTitle();
});

openRoom(rooms.get(config.room), config.messages);
