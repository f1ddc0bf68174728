// JSON lines: one command per line in, one answer or event per line out.

import { createInterface } from "node:readline";

let order = 0;

/** Write one line; `order` tells the reader in which order things happened here. */
export function emit(line) {
  process.stdout.write(`${JSON.stringify({ order: ++order, ...line }, withoutSockets)}\n`);
}

/** pusher-js reports a lost connection by an event that holds the socket, which holds the event. */
function withoutSockets(key, value) {
  return key === "target" || key === "currentTarget" ? undefined : value;
}

/** Answer every `{id, do, ...}` with the result of `commands[do]`; end with the input. */
export function serve(commands) {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const { id, do: name, ...args } = JSON.parse(line);
    try {
      emit({ answer: id, result: (await commands[name](args)) ?? null });
    } catch (error) {
      emit({ answer: id, error: describe(error) });
    }
  });
  lines.on("close", () => process.exit(0));
}

function describe(error) {
  const { name, message, status, body } = error;
  return { name, message, status, body };
}
