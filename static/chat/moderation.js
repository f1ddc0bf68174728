// Disconnecting somebody, after asking whether it is meant.

import { request } from "./api.js";
import { byId } from "./dom.js";
import { notify } from "./notices.js";

/** kickUrl: the address with UID in the place of the user id. */
export function createModeration(kickUrl) {
  const dialog = byId("kick-dialog");
  const form = byId("kick-form");
  const reason = byId("kick-reason");
  const problem = byId("kick-problem");
  let target = null;
  let busy = false;

  async function kick() {
    const { id, name } = target;
    busy = true;
    problem.hidden = true;
    try {
      const url = kickUrl.replace("UID", encodeURIComponent(id));
      await request(url, { reason: reason.value.trim() });
      dialog.close();
      notify("remove", `${name} was disconnected`, "They may come back by choosing to.", {
        briefly: true,
      });
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    } finally {
      busy = false;
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!busy) kick();
  });
  byId("kick-cancel").addEventListener("click", () => dialog.close());

  return {
    ask(id, name) {
      target = { id, name };
      byId("kick-heading").textContent = `Disconnect ${name}?`;
      reason.value = "";
      problem.hidden = true;
      dialog.showModal();
    },
  };
}
