// Drives unmodified pusher-js clients, several in one process, each with a name.

import { createRequire } from "node:module";

import { emit, serve } from "./lines.mjs";

const require = createRequire(import.meta.url);
const Pusher = require("pusher-js");
const PusherServer = require("pusher");
const PusherBatchAuthorizer = require("pusher-js-auth");
const clients = new Map();

/** Everything `dispatcher` emits becomes an event line. */
function report(client, source, dispatcher) {
  dispatcher.bind_global((event, data) => {
    emit({ client, source, event, data: plain(data) });
  });
}

/** Data as JSON can carry it: members of a presence channel are more than plain data. */
function plain(data) {
  if (data && typeof data.each === "function") {
    return { count: data.count, members: data.members, myID: data.myID };
  }
  return data instanceof Error ? { message: data.message } : data;
}

function authorizer(url, path, token) {
  const headers = token ? { Authorization: `Token ${token}` } : {};
  return { transport: "ajax", endpoint: `${url}${path}`, headers };
}

/** The same for the plugin pusher-js-auth, which takes the options of older versions. */
function batchAuthorizer(url, token) {
  const { endpoint, headers } = authorizer(url, "/pusher/auth", token);
  return { authorizer: PusherBatchAuthorizer, authEndpoint: endpoint, auth: { headers } };
}

/** What a back end would sign, signed here: for apps that the site has no endpoint for. */
function signer({ member, user, ...app }) {
  const server = new PusherServer({ ...app, cluster: "none" });
  const answering = (sign) => ({
    customHandler: (asked, callback) => callback(null, sign(asked)),
  });
  return {
    channelAuthorization: answering(({ socketId, channelName }) =>
      server.authorizeChannel(socketId, channelName, member),
    ),
    userAuthentication: answering(({ socketId }) => server.authenticateUser(socketId, user)),
  };
}

serve({
  connect({ client, key, url, token, options: { batches, signing, ...options } }) {
    const { hostname, port } = new URL(url);
    const channelAuthorization = authorizer(url, "/pusher/auth", token);
    const pusher = new Pusher(key, {
      cluster: "",
      wsHost: hostname,
      wsPort: Number(port),
      httpHost: hostname,
      httpPort: Number(port),
      forceTLS: false,
      enabledTransports: ["ws"],
      ...(batches ? batchAuthorizer(url, token) : { channelAuthorization }),
      userAuthentication: authorizer(url, "/pusher/user-auth", token),
      ...(signing ? signer({ key, ...signing }) : {}),
      ...options,
    });
    clients.set(client, pusher);
    report(client, "connection", pusher.connection);
    report(client, "user", pusher.user);
    report(client, "watchlist", pusher.user.watchlist);
  },
  subscribe({ client, channel }) {
    const pusher = clients.get(client);
    const known = pusher.channel(channel);
    const subscription = pusher.subscribe(channel);
    if (subscription !== known) {
      report(client, channel, subscription);
    }
  },
  unsubscribe({ client, channel }) {
    clients.get(client).unsubscribe(channel);
  },
  bind({ client, channel, event }) {
    clients.get(client).channel(channel).bind(event, (data, metadata) => {
      emit({ client, source: `${channel} bound`, event, data, metadata });
    });
  },
  signin({ client }) {
    clients.get(client).signin();
  },
  trigger({ client, channel, event, data }) {
    return clients.get(client).channel(channel).trigger(event, data);
  },
  /** So many events at once, which carry 0, 1, 2 and so on. */
  trigger_many({ client, channel, event, count }) {
    for (let number = 0; number < count; number += 1) {
      clients.get(client).channel(channel).trigger(event, number);
    }
  },
  members({ client, channel }) {
    return plain(clients.get(client).channel(channel).members);
  },
  /** Oneself in a presence channel: as of the subscription, and as of now. */
  me({ client, channel }) {
    const { members } = clients.get(client).channel(channel);
    return { me: members.me, now: members.get(members.myID) };
  },
  state({ client }) {
    return clients.get(client).connection.state;
  },
  socket_id({ client }) {
    return clients.get(client).connection.socket_id;
  },
  /** Answers after the clock of this process, which also times every retry, went on by `ms`. */
  wait({ ms }) {
    return new Promise((resolve) => setTimeout(resolve, ms));
  },
  disconnect({ client }) {
    clients.get(client).disconnect();
  },
});
