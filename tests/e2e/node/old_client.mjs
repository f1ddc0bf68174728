// Drives unmodified clients `pusher-client` of npm, several in one process, each with a name.

import { createRequire } from "node:module";

import { emit, serve } from "./lines.mjs";

const Pusher = createRequire(import.meta.url)("pusher-client");
const clients = new Map();
const EVENTS = ["succeeded", "error"].map((end) => `pusher:subscription_${end}`);
const NEWS = ["pusher:member_added", "pusher:member_removed"];

// The library complains on the standard output, which is for our lines.
Pusher.warn = (...words) => console.error(...words);

/** Every `event` that `source` emits becomes an event line. */
function report(client, name, source, event) {
  source.bind(event, (data) => emit({ client, source: name, event, data }));
}

serve({
  connect({ client, key, url, token, options }) {
    const { hostname, port } = new URL(url);
    const headers = token ? { Authorization: `Token ${token}` } : {};
    const pusher = new Pusher(key, {
      host: hostname,
      wsPort: Number(port),
      authEndpoint: `${url}/pusher/auth`,
      auth: { headers },
      ...options,
    });
    clients.set(client, pusher);
    for (const event of ["state_change", "error"]) {
      report(client, "connection", pusher.connection, event);
    }
  },
  subscribe({ client, channel }) {
    const subscription = clients.get(client).subscribe(channel);
    for (const event of [...EVENTS, ...NEWS]) {
      report(client, channel, subscription, event);
    }
  },
  unsubscribe({ client, channel }) {
    clients.get(client).unsubscribe(channel);
  },
  bind({ client, channel, event }) {
    report(client, channel, clients.get(client).channel(channel), event);
  },
  trigger({ client, channel, event, data }) {
    return clients.get(client).channel(channel).trigger(event, data);
  },
  state({ client }) {
    return clients.get(client).connection.state;
  },
  disconnect({ client }) {
    clients.get(client).disconnect();
  },
});
