// Drives a real Chromium that has signed in to a site with Basic: a page of the site, then a form on another site.
//   node cached-basic.mjs '{"site", "otherPort", "chromium"}'
// Prints {own, attacks: [{path, method, status, authorization, origin, site}]}.
import { createServer } from 'node:http'

import { chromium } from 'playwright-core'

const { site, otherPort, chromium: executablePath } = JSON.parse(process.argv[2])
const form = (query) => `<!doctype html><form method="${query.get('method')}" action="${site}${query.get('path')}" enctype="text/plain"></form>`
const other = createServer((request, response) => {
  const query = new URL(request.url, 'http://x').searchParams
  response.writeHead(200, { 'content-type': 'text/html' }).end(query.has('path') ? form(query) : '<!doctype html>')
}).listen(otherPort)

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
const context = await browser.newContext({ httpCredentials: { username: 'alice', password: 'secret', origin: site } })
const page = await context.newPage()
await page.goto(`${site}/`) // the site asks for Basic here, and the browser keeps it for all paths below
const own = await page.evaluate(async () => (await fetch('/chat/token', { method: 'POST' })).status)

const attacks = []
for (const [method, path] of [['POST', '/chat/token'], ['GET', '/chat/token'], ['POST', '/chat/rooms'], ['GET', '/chat/rooms']]) {
  const elsewhere = await context.newPage() // one each: no navigation gets into another's way
  await elsewhere.goto(`http://127.0.0.1:${otherPort}/?method=${method}&path=${path}`)
  const answered = elsewhere.waitForResponse((response) => response.url().startsWith(`${site}/chat/`))
  await elsewhere.evaluate(() => { setTimeout(() => document.forms[0].submit(), 0) })
  const response = await answered
  const headers = await response.request().allHeaders()
  attacks.push({ method, path, status: response.status(), authorization: headers.authorization ?? null, origin: headers.origin ?? null, site: headers['sec-fetch-site'] ?? null })
}
await browser.close()
other.closeAllConnections()
other.close()
console.log(JSON.stringify({ own, attacks }))
