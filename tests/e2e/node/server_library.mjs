// Drives the unmodified server library `pusher` of npm.

import { createRequire } from "node:module";

import { serve } from "./lines.mjs";

const Pusher = createRequire(import.meta.url)("pusher");
let pusher;

async function answer(response) {
  const { status } = response;
  return { status, body: JSON.parse(await response.text()) };
}

serve({
  configure({ appId, key, secret, host, port }) {
    pusher = new Pusher({ appId, key, secret, host, port, useTLS: false });
  },
  async trigger({ channels, event, data, params }) {
    return answer(await pusher.trigger(channels, event, data, params));
  },
  async triggerBatch({ batch }) {
    return answer(await pusher.triggerBatch(batch));
  },
  async get({ path, params }) {
    return answer(await pusher.get({ path, params }));
  },
  async sendToUser({ userId, event, data }) {
    return answer(await pusher.sendToUser(userId, event, data));
  },
  async terminateUserConnections({ userId }) {
    return answer(await pusher.terminateUserConnections(userId));
  },
});
