// Who is in the room: the list, the count, and the drawer that holds them on small screens.

import { byId, clone, showAvatar, speaker } from "./dom.js";

/**
 * mayKick, mayNotify: which actions a member row offers.
 */
export function createPeople({ mayKick, mayNotify, onKick, onNotify }) {
  const list = byId("members");
  const count = byId("member-count");
  const panel = byId("people-panel");
  const aside = byId("people-aside");
  const drawer = byId("people-drawer");
  const toggle = byId("people-toggle");
  const wide = matchMedia("(width >= 1024px)");
  const speak = speaker(byId("spoken-people"));
  const placeholders = [...list.children];
  let members = null;

  const nameOf = (member) => member.info?.name ?? `Member ${member.id}`;
  const rowOf = (id) => [...list.children].find((row) => row.dataset.memberId === id);

  function showCount() {
    count.textContent = members.count;
    speak(members.count === 1 ? "Only you are here" : `${members.count} people are here`);
  }

  function build(member, isMe) {
    const row = clone("member-template");
    const name = nameOf(member);
    row.dataset.memberId = member.id;
    row.dataset.testid = `member-${member.id}`;
    row.dataset.order = `${isMe ? 0 : 1} ${name}`;
    showAvatar(row.querySelector(".avatar"), member.info?.icon);
    row.querySelector(".name").textContent = name;
    row.querySelector(".you").hidden = !isMe;
    row.querySelector(".role").hidden = member.info?.role !== "admin";
    row.querySelector(".kick").dataset.testid = `kick-${member.id}`;
    offer(row.querySelector(".notify"), mayNotify && !isMe, `Send ${name} an order notice`, () =>
      onNotify(member.id, name),
    );
    offer(row.querySelector(".kick"), mayKick && !isMe, `Disconnect ${name}`, () =>
      onKick(member.id, name),
    );
    return row;
  }

  function offer(button, allowed, label, act) {
    if (!allowed) {
      button.remove();
      return;
    }
    button.hidden = false;
    button.title = label;
    button.querySelector(".visually-hidden").textContent = label;
    button.addEventListener("click", act);
  }

  /** Rows that are there stay where they are, so that a focused button keeps the focus. */
  function insert(member) {
    rowOf(member.id)?.remove();
    const row = build(member, member.id === members.me?.id);
    const next = [...list.children].find(
      (other) => other.dataset.order.localeCompare(row.dataset.order) > 0,
    );
    list.insertBefore(row, next ?? null);
  }

  function placePanel() {
    if (wide.matches) {
      drawer.close();
      aside.append(panel);
    } else {
      drawer.append(panel);
    }
    showExpanded();
  }

  function showExpanded() {
    toggle.setAttribute("aria-expanded", String(wide.matches ? !aside.hidden : drawer.open));
  }

  toggle.addEventListener("click", () => {
    if (wide.matches) aside.hidden = !aside.hidden;
    else drawer.showModal();
    showExpanded();
  });
  byId("people-close").addEventListener("click", () => drawer.close());
  drawer.addEventListener("close", showExpanded);
  drawer.addEventListener("click", (event) => {
    if (event.target === drawer) drawer.close(); // the backdrop
  });
  wide.addEventListener("change", placePanel);
  placePanel();

  return {
    /** The members of a room that has just been entered, as pusher-js keeps them. */
    show(current) {
      members = current;
      list.replaceChildren();
      members.each(insert);
      list.removeAttribute("aria-busy");
      showCount();
    },
    add(member) {
      insert(member);
      showCount();
    },
    remove(member) {
      rowOf(member.id)?.remove();
      showCount();
    },
    /** Nobody is known until the next room has been entered. */
    clear() {
      members = null;
      list.setAttribute("aria-busy", "true");
      list.replaceChildren(...placeholders);
      count.textContent = "–";
    },
    closeDrawer: () => drawer.close(),
    nameOf,
    /** The names of those of *ids* who are present. */
    names: (ids) => ids.map((id) => members?.get(id)).filter(Boolean).map(nameOf),
  };
}

