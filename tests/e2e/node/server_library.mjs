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
  /** The names of all functions that the library offers. */
  methods() {
    return [...Object.keys(Pusher), ...Object.keys(Pusher.prototype)];
  },
  configure({ appId, key, secret, host, port }) {
    pusher = new Pusher({ appId, key, secret, host, port, useTLS: false });
  },
  configureByUrl({ url }) {
    pusher = Pusher.forURL(url);
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
  async post({ path, body, params }) {
    return answer(await pusher.post({ path, body, params }));
  },
  async sendToUser({ userId, event, data }) {
    return answer(await pusher.sendToUser(userId, event, data));
  },
  async terminateUserConnections({ userId }) {
    return answer(await pusher.terminateUserConnections(userId));
  },
  authorizeChannel({ socketId, channel, data }) {
    return pusher.authorizeChannel(socketId, channel, data);
  },
  authenticate({ socketId, channel, data }) {
    return pusher.authenticate(socketId, channel, data);
  },
  authenticateUser({ socketId, userData }) {
    return pusher.authenticateUser(socketId, userData);
  },
  createSignedQueryString({ method, path, params, body }) {
    return pusher.createSignedQueryString({ method, path, params, body });
  },
  webhook({ headers, rawBody }) {
    const webhook = pusher.webhook({ headers, rawBody });
    const isValid = webhook.isValid();
    return { isValid, time: webhook.getTime().getTime(), events: webhook.getEvents() };
  },
});
