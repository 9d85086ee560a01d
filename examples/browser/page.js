// Two people in a room called General: sign in by name (development mode), read, write.
import { createChat } from "./chat.js";

const BROKER = new URLSearchParams(location.search).get("broker") ?? "http://127.0.0.1:8000";
const find = (selector) => document.querySelector(selector);
let chat, room;

async function signIn(username) {
  const answer = await fetch(`${BROKER}/dev/login`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ username }),
    credentials: "omit", // no cookie: it would be the same one in every tab
  });
  if (!answer.ok) throw new Error((await answer.json()).message);
  const { token } = await answer.json(); // the app's own credential; in production your sign-in gives it
  const headers = () => ({ authorization: `Bearer ${token}` });
  chat = createChat({ url: `${BROKER}/chat`, headers, credentials: "omit", onMessage, onStatus });
  room = await general();
  chat.start();
  await chat.join(room);
  [find("#sign-in").hidden, find("main").hidden] = [true, false];
}

async function general() {
  const { items } = await chat.request("GET", "/rooms?scope=open&limit=200");
  const found = items.find(({ name }) => name === "General");
  return (found ?? (await chat.request("POST", "/rooms", { name: "General" }))).id;
}

function onMessage({ username, content, created_at: at }) {
  const line = document.createElement("li");
  line.textContent = `${new Date(at).toLocaleTimeString()} ${username}: ${content}`; // text, never HTML
  find("#messages").append(line);
  line.scrollIntoView();
}

function onStatus({ state, code }) {
  find("#status").textContent = code ? `${state}: ${code}` : state;
}

find("#sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(event.target.username.value).catch((error) => alert(error.message));
});

find("#say").addEventListener("submit", (event) => {
  event.preventDefault();
  const { content } = event.target;
  chat.send(room, content.value).catch((error) => alert(error.message));
  content.value = "";
});

find("#sign-out").addEventListener("click", () => chat.signOut().catch((error) => alert(error.message)));
