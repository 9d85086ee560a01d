import { io } from "socket.io-client";

const HISTORY = 50; // messages to begin with, in a room that is joined for the first time
const SILENCE = 45_000; // ms: the server pings every 25 s, and gives up a socket that has not answered 20 s later
const TRANSIENT = new Set(["busy", "database_unavailable", "internal_error", "rate_limited", "unavailable"]);

const jitter = (tries) => Math.random() * Math.min(20_000, 500 * 2 ** tries);

// Why something failed: whether that is final, and how many milliseconds the server asks to wait.
const failure = ({ code, message = code, reconnect = true, retry_after: seconds }) =>
  Object.assign(new Error(message), { code, final: !reconnect, wait: 1000 * Math.min(Number(seconds) || 0, 60) });

const call = (callback, ...args) => { try { callback?.(...args); } catch (error) { reportError(error); } };

export function createChat({ url = "/chat", headers = () => ({}), credentials, onMessage, onEvent, onStatus }) {
  const rooms = new Map(); // id → { id, joined, seq: of the newest message handed over, early: messages after a gap }
  const outbox = []; // messages that are not acknowledged yet, in order
  const tabs = new BroadcastChannel("chat");
  let user, pass, renewAt = 0, refusals = 0; // pass: the last answer of /chat/token; renewAt: when the next is due
  let socket, shown, heardAt, ended; // shown: the token this socket knows; ended: why the last socket was closed
  let running = false, loop = Promise.resolve(), again = false, nudge = () => { again = true; }, abandon;

  // 1. Requests: what a status means

  async function request(method, path, body) {
    let answer;
    try {
      answer = await fetch(url + path, {
        method, credentials, signal: AbortSignal.timeout(10_000), body: body && JSON.stringify(body),
        headers: { "x-chat-csrf": "1", ...(body && { "content-type": "application/json" }), ...(await headers()) },
      });
      if (answer.ok) return answer.status === 204 ? undefined : await answer.json();
    } catch {
      throw failure({ code: "unreachable" }); // no network, no answer in time, or not the broker's
    }
    const { code = `http_${answer.status}`, message } = await answer.json().catch(() => ({}));
    if (answer.status === 401) throw failure({ code: "signed_out", message, reconnect: false });
    const reconnect = answer.status === 429 || answer.status >= 500;
    throw failure({ code, message, reconnect, retry_after: answer.headers.get("retry-after") });
  }

  async function renew() {
    const asked = Date.now();
    try {
      const fresh = await request("POST", "/token");
      user ??= fresh.user.id;
      if (fresh.user.id !== user) throw failure({ code: "signed_out", reconnect: false }); // another user is signed in
      [pass, refusals, renewAt] = [fresh, 0, asked + 1000 * Math.max(1, fresh.refresh_in)];
    } catch (error) {
      renewAt = Date.now() + Math.max(error.wait, jitter(refusals++));
      if (error.final || !socket) throw error; // else the socket goes on with the token it has, while that lasts
    }
  }

  // 2. One socket at a time, and why it ends

  function connect() {
    if (!running) throw failure({ code: "stopped" });
    const mine = io(pass.server.url, {
      path: pass.server.socket_path, transports: ["websocket"], auth: { token: pass.token },
      reconnection: false, forceNew: true, // coming back is the loop's business alone
    });
    [socket, shown] = [mine, pass.token];
    return new Promise((resolve, reject) => {
      let farewell;
      abandon = reject;
      setTimeout(() => { if (socket === mine && !mine.connected) drop(); }, 10_000);
      mine.on("connect", () => { heardAt = Date.now(); resolve(); });
      mine.on("connect_error", ({ data }) => drop(failure(data ?? { code: "unreachable" })));
      mine.on("error", (error) => { if (error.closing) farewell = error; });
      mine.on("disconnect", () => { ended = drop(failure(farewell ?? { code: "connection_lost" })); nudge(); });
      mine.on("tokenExpiring", () => { if (!refusals) renewAt = 0; poke(); });
      mine.io.on("ping", () => { heardAt = Date.now(); });
      mine.onAny((event, payload) => (event === "message" ? live(payload) : call(onEvent, event, payload)));
    });
  }

  function drop(error = failure({ code: "connection_lost" })) {
    socket?.off().disconnect();
    socket = undefined;
    for (const room of rooms.values()) room.joined = false;
    abandon?.(error);
    return error;
  }

  async function ask(event, argument) {
    const mine = socket;
    if (!mine?.connected) throw failure({ code: "connection_lost" });
    const answer = await mine.timeout(10_000).emitWithAck(event, argument).catch(() => {
      if (socket === mine) { drop(); nudge(); }
      throw failure({ code: "connection_lost" });
    });
    const { ok, error } = answer;
    if (!ok) throw failure({ ...error, reconnect: TRANSIENT.has(error.code) || error.retry_after > 0 });
    return answer;
  }

  // 3. The loop: looks at what there is, and puts right what is not as it should be

  const pause = (ms) => new Promise((resume) => {
    const timer = setTimeout(resume, ms);
    nudge = () => { again = true; clearTimeout(timer); resume(); };
  });
  const poke = () => { again = true; if (socket) nudge(); }; // without a socket, a back-off is not cut short
  const wake = () => { shown = undefined; nudge(); };

  async function run() {
    for (let tries = 0; running; ) {
      again = false;
      try {
        await putRight();
        tries = 0;
        call(onStatus, { state: "online" });
        if (!again) await pause(renewAt - Date.now());
      } catch (caught) {
        const error = ended ?? caught;
        ended = undefined;
        if (error.final && running) stop(error.code);
        if (!running) return;
        if (error.code === "token_expired") pass = undefined;
        if (error.code === "message_too_large") outbox.shift()?.reject(error); // it would end the next socket, too
        call(onStatus, { state: "waiting", code: error.code });
        const until = Date.now() + error.wait;
        await pause(jitter(tries++));
        while (running && Date.now() < until) await pause(until - Date.now()); // nothing makes this shorter
      }
    }
  }

  async function putRight() {
    if (ended) throw ended;
    if (socket && Date.now() - heardAt > SILENCE) drop();
    if (!socket) {
      if (!pass || Date.now() >= renewAt) await renew();
      await connect();
    }
    for (const room of rooms.values()) if (!room.joined) await catchUp(room);
    while (outbox.length) await post(outbox[0]);
    if (Date.now() >= renewAt) await renew();
    if (shown !== pass.token) await show(pass.token);
  }

  async function show(token) {
    await ask("refreshToken", { token }).catch(({ code }) => { throw drop(failure({ code })); });
    shown = token; // and the socket is alive
  }

  // 4. Rooms: nothing is missed, nothing comes twice

  async function catchUp(room) {
    const mine = socket;
    try {
      const { last_seq: last, missed } = await ask("joinRoom", { roomId: room.id, sinceSeq: room.seq });
      if (room.seq > last) room.early.clear(); // the server was restored from a backup: begin anew
      if (!(room.seq <= last)) room.seq = Math.max(0, last - HISTORY);
      handOver(room, missed);
      for (let more = true; more && room.seq < last; ) {
        const path = `/rooms/${encodeURIComponent(room.id)}/messages?after=${room.seq}&limit=200`;
        const page = await request("GET", path);
        if (socket !== mine) throw failure({ code: "connection_lost" });
        handOver(room, page.items);
        more = page.has_more;
      }
      room.joined = true;
      room.resolve();
    } catch (error) {
      if (!error.final || error.code === "signed_out") throw error;
      rooms.delete(room.id);
      room.reject(error);
    }
  }

  function live(message) {
    const room = rooms.get(message.room_id);
    if (!room || message.seq <= room.seq) return;
    room.early.set(message.seq, message);
    handOver(room);
    if (room.early.size && room.joined) { room.joined = false; poke(); } // a gap: join again
  }

  // What `list` lacks does not exist: it is the server's own. Without one, what follows without a gap.
  function handOver(room, list = []) {
    for (const message of list) room.early.set(message.seq, message);
    for (const [seq, message] of [...room.early].sort(([a], [b]) => a - b)) {
      if (!(seq <= Math.max(list.at(-1)?.seq ?? 0, room.seq + 1))) break;
      room.early.delete(seq);
      if (seq > room.seq) { room.seq = seq; call(onMessage, message); }
    }
  }

  async function post(entry) {
    try {
      entry.resolve((await ask("sendMessage", entry.message)).message);
    } catch (error) {
      if (!error.final) throw error; // sent again later: one clientMsgId is posted once
      entry.reject(error);
    }
    outbox.shift();
  }

  // 5. What the app calls

  function stop(code = "stopped") {
    [running, pass] = [false, undefined];
    drop();
    nudge();
    for (const { reject } of [...rooms.values(), ...outbox.splice(0)]) reject(failure({ code, reconnect: false }));
    for (const room of rooms.values()) room.ready = undefined;
    call(onStatus, { state: "stopped", code });
  }

  for (const event of ["online", "pageshow"]) addEventListener(event, wake);
  for (const event of ["visibilitychange", "resume"]) document.addEventListener(event, wake);
  tabs.onmessage = ({ data }) => { if (running && data === user) stop("signed_out"); };

  return {
    request,
    stop,
    start() { if (!running) { running = true; loop = loop.then(run); } },
    async join(id) {
      const room = rooms.get(id) ?? { id, early: new Map() };
      if (!room.joined) room.ready ??= new Promise((resolve, reject) => Object.assign(room, { resolve, reject }));
      rooms.set(id, room);
      poke();
      return room.ready;
    },
    leave(id) { rooms.delete(id); return ask("leaveRoom", id); },
    send: (roomId, content) => new Promise((resolve, reject) => {
      const clientMsgId = crypto.getRandomValues(new Uint32Array(4)).join("-");
      outbox.push({ message: { roomId, content, clientMsgId }, resolve, reject });
      poke();
    }),
    markRead: (id) => ask("markRead", { roomId: id, seq: rooms.get(id).seq }),
    async signOut() {
      tabs.postMessage(user);
      stop("signed_out");
      await request("DELETE", "/token");
    },
  };
}
