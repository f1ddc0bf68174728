// Reads a webhook with the unmodified server library `pusher` of npm.

import { createRequire } from "node:module";

import { serve } from "./lines.mjs";

const Pusher = createRequire(import.meta.url)("pusher");

serve({
  read({ key, secret, headers, rawBody }) {
    const pusher = new Pusher({ appId: "1", key, secret });
    const webhook = pusher.webhook({ headers, rawBody });
    if (!webhook.isValid()) {
      return { valid: false };
    }
    return { valid: true, events: webhook.getEvents(), time: webhook.getTime().getTime() };
  },
});
