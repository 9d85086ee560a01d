// Connects with the official client and a token that is none; prints each connect_error, and ends with the server's own.
import { io } from "socket.io-client";

const [url, transport] = process.argv.slice(2);
const socket = io(url, {
  transports: [transport],
  auth: { token: "none" },
  reconnectionDelay: 300,
  reconnectionDelayMax: 500,
});
socket.on("connect_error", (error) => {
  console.log(JSON.stringify({ code: error.data?.code ?? null, active: socket.active }));
  if (error.data?.code) socket.disconnect();
});
