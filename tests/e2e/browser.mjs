// A real Chromium, driven by one JSON command a line on standard input; one JSON answer a line.
//   node browser.mjs '{"port", "chromium"}'
// Serves examples/browser, and the official client from node_modules, on http://localhost:PORT.
import { readdirSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const { port, chromium: executablePath } = JSON.parse(process.argv[2]);
const here = fileURLToPath(new URL(".", import.meta.url));
const examples = join(here, "..", "..", "examples", "browser");
const types = { ".html": "text/html", ".js": "text/javascript" };

createServer(async (request, response) => {
  const path = normalize(new URL(request.url, "http://x").pathname);
  const folder = path.startsWith("/node_modules/") || path === "/client.html" ? here : examples;
  try {
    const body = await readFile(join(folder, path === "/" ? "index.html" : path));
    response.writeHead(200, { "content-type": types[extname(path) || ".html"] ?? "text/plain" }).end(body);
  } catch {
    response.writeHead(404).end();
  }
}).listen(port, "localhost");

const server = await chromium.launchServer({
  executablePath,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});
const browser = await chromium.connect(server.wsEndpoint());
const contexts = new Map();
const pages = new Map();

// The browser's own processes, its renderers and its network service among them.
function family(pid) {
  const parents = new Map();
  for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // ended meanwhile
    }
  }
  const found = [pid];
  for (const each of found) for (const [child, parent] of parents) if (parent === each) found.push(child);
  return found;
}

const commands = {
  // A tab; tabs of one *profile* share cookies and storage.
  async open({ page: name, url, profile = "one", options = {}, script }) {
    if (!contexts.has(profile)) contexts.set(profile, await browser.newContext(options));
    const page = await contexts.get(profile).newPage();
    const seen = { page, requests: [], errors: [], console: [], cdp: await page.context().newCDPSession(page) };
    pages.set(name, seen);
    page.on("request", (request) => seen.requests.push(`${request.method()} ${request.url()}`));
    page.on("websocket", (socket) => seen.requests.push(`WS ${socket.url()}`));
    page.on("console", (message) => seen.console.push(message.text()));
    page.on("pageerror", (error) => seen.errors.push(String(error)));
    if (script) await page.addInitScript(script);
    await page.goto(url);
    return {};
  },
  evaluate: async ({ page, script, argument }) => ({ result: await pages.get(page).page.evaluate(`(${script})(${JSON.stringify(argument) ?? ""})`) }),
  async fill({ page, label, text }) {
    await pages.get(page).page.getByLabel(label, { exact: true }).fill(text);
    return {};
  },
  async press({ page, button }) {
    await pages.get(page).page.getByRole("button", { name: button, exact: true }).click();
    return {};
  },
  async shows({ page, text }) {
    await pages.get(page).page.getByText(text).first().waitFor({ timeout: 20_000 });
    return {};
  },
  async hidden({ page, label }) {
    await pages.get(page).page.getByLabel(label, { exact: true }).waitFor({ state: "hidden", timeout: 20_000 });
    return {};
  },
  async shot({ page, path, fullPage = true }) {
    await pages.get(page).page.screenshot({ path, fullPage });
    return {};
  },
  cdp: async ({ page, method, parameters = {} }) => ({ result: await pages.get(page).cdp.send(method, parameters) }),
  watched: ({ page }) => ({ requests: pages.get(page).requests, errors: pages.get(page).errors, console: pages.get(page).console }),
  storage: async ({ profile = "one" }) => ({ cookies: await contexts.get(profile).cookies(), state: await contexts.get(profile).storageState() }),
  // SIGSTOP and SIGCONT, to all processes of the browser or to its renderers alone: no timer of a page runs in between.
  signal({ name, only = "" }) {
    const pids = family(server.process().pid).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(only));
    for (const pid of pids) process.kill(pid, name);
    return { stopped: pids.length };
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
for (const pid of family(server.process().pid)) process.kill(pid, "SIGCONT");
await server.close();
process.exit(0);
