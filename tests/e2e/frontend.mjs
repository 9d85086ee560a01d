// A frontend as the public SDK's README shows it: fetch a token from the app's own backend, connect with the official
// Socket.IO client, join, listen, send. Reads one JSON command a line on standard input; writes one JSON answer a line.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const sockets = new Map();

const commands = {
  // Exactly the README's line, plus the app's own credential.
  async token({ url, authorization }) {
    const jwtToken = await fetch(url, { headers: { authorization } }).then((r) => r.json());
    return { token: jwtToken.token, whole: jwtToken };
  },

  async fetch({ url, method = "GET", headers = {}, body }) {
    const answer = await fetch(url, { method, headers, body: body == null ? undefined : JSON.stringify(body) });
    const text = await answer.text();
    return { status: answer.status, headers: Object.fromEntries(answer.headers), body: text ? JSON.parse(text) : null };
  },

  connect({ name, server, token, transports = ["websocket"] }) {
    return new Promise((resolve) => {
      const socket = io(server.url, { path: server.socket_path, auth: { token }, transports, reconnection: false });
      const heard = [];
      sockets.set(name, { socket, heard });
      socket.onAny((event, payload) => heard.push({ event, payload }));
      socket.on("disconnect", (reason) => heard.push({ event: "disconnect", payload: reason }));
      socket.on("connect", () => resolve({ connected: true, transport: socket.io.engine.transport.name }));
      socket.on("connect_error", (error) => resolve({ connected: false, message: error.message, data: error.data ?? null }));
    });
  },

  emit({ name, event, args }) {
    return sockets.get(name).socket.timeout(5000).emitWithAck(event, ...args);
  },

  // Answers once the socket has heard `event` `count` times (or says what it heard instead after five seconds).
  async heard({ name, event, count = 1 }) {
    const { heard } = sockets.get(name);
    const deadline = Date.now() + 5000;
    for (;;) {
      const matching = heard.filter((entry) => entry.event === event).map((entry) => entry.payload);
      if (matching.length >= count) return { payloads: matching };
      if (Date.now() > deadline) return { payloads: matching, instead: heard };
      await new Promise((resume) => setTimeout(resume, 10));
    }
  },

  close({ name }) {
    sockets.get(name).socket.close();
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...rest } = JSON.parse(line);
  let answer;
  try {
    answer = await commands[command](rest);
  } catch (error) {
    answer = { failed: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
process.exit(0);
