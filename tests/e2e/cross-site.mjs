// Drives a real Chromium: a page of a listed origin, then the same tricks from two origins that are not.
//   node cross-site.mjs '{"broker", "room", "cookie": {"name", "value"}, "listedPort", "otherPort", "chromium"}'
// Prints {listed, attacks: [{from, results, statuses}]}.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { chromium } from 'playwright-core'

const { broker, room, cookie, listedPort, otherPort, chromium: executablePath } = JSON.parse(process.argv[2])

const blank = (request, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>x</title><body>')
const servers = [listedPort, otherPort].map((port) => createServer(blank).listen(port))

// With a profile on disk: what the driver opens by default is incognito, and there other sites get no cookies at all.
const profile = await mkdtemp(join(tmpdir(), 'cross-site-'))
await mkdir(join(profile, 'Default'))
await writeFile(join(profile, 'Default', 'Preferences'), JSON.stringify({ profile: { cookie_controls_mode: 0, block_third_party_cookies: false } }))
const context = await chromium.launchPersistentContext(profile, { executablePath, args: ['--no-sandbox'] })
// As open as an app's cookie can be: sent by every site's requests.
await context.addCookies([{ ...cookie, url: broker.replace('http:', 'https:'), httpOnly: true, secure: true, sameSite: 'None' }])

async function open (origin) {
  const page = await context.newPage()
  const statuses = []
  page.on('response', (response) => {
    if (response.url().startsWith(broker)) statuses.push(`${response.request().method()} ${response.url().slice(broker.length).split('?')[0]} ${response.status()}`)
  })
  await page.goto(origin)
  return { page, statuses }
}

const { page: friend } = await open(`http://localhost:${listedPort}/`)
const listed = await friend.evaluate(async ({ broker }) => {
  const headers = { 'X-Chat-CSRF': '1', 'Content-Type': 'application/json' }
  const made = await fetch(`${broker}/chat/rooms`, { method: 'POST', credentials: 'include', headers, body: JSON.stringify({ name: 'made by the listed page' }) })
  const minted = await fetch(`${broker}/chat/token`, { credentials: 'include' })
  return { made: made.status, minted: minted.status, token: typeof (await minted.json()).token }
}, { broker })

const tricks = async ({ broker, room }) => {
  const results = {}
  const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
  const note = async (name, promise) => {
    try { results[name] = await Promise.race([promise, after(4000).then(() => 'nothing happened')]) } catch (error) { results[name] = `refused: ${error.name}` }
  }
  const element = (tag, attributes) => new Promise((resolve) => {
    const made = Object.assign(document.createElement(tag), attributes)
    made.onload = () => resolve('loaded')
    made.onerror = () => resolve('refused')
    document.body.append(made)
  })
  for (const path of ['/chat/token', '/chat/me', '/chat/rooms']) {
    await note(`img ${path}`, element('img', { src: broker + path }))
    await note(`script ${path}`, element('script', { src: broker + path }))
    await note(`fetch ${path}`, fetch(broker + path, { credentials: 'include' }).then((r) => r.text()).then((t) => `read ${t.length}`))
    await note(`no-cors ${path}`, fetch(broker + path, { credentials: 'include', mode: 'no-cors' }).then((r) => r.type))
    await note(`iframe ${path}`, element('iframe', { src: broker + path }))
  }
  const writes = [
    ['POST', '/chat/token', ''], ['POST', '/chat/rooms', '{"name":"made by another site"}'], ['POST', `/chat/rooms/${room}/join`, ''],
    ['POST', `/chat/rooms/${room}/leave`, ''], ['POST', `/chat/rooms/${room}/messages`, '{"content":"said by another site"}']
  ]
  for (const [method, path, body] of writes) {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded']) {
      await note(`simple ${type} ${path}`, fetch(broker + path, { method, credentials: 'include', mode: 'no-cors', headers: { 'Content-Type': type }, body }).then((r) => r.type))
    }
    for (const headers of [{ 'Content-Type': 'application/json' }, { 'Content-Type': 'application/json', 'X-Chat-CSRF': '1' }, { 'X-Chat-CSRF': '1' }]) {
      await note(`cors ${Object.keys(headers)} ${path}`, fetch(broker + path, { method, credentials: 'include', headers, body }).then((r) => `answered ${r.status}`))
    }
    results[`beacon ${path}`] = navigator.sendBeacon(broker + path, new Blob([body], { type: 'text/plain' }))
    for (const enctype of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
      const name = `f${Math.random()}`
      await note(`form ${enctype} ${path}`, new Promise((resolve) => {
        const frame = Object.assign(document.createElement('iframe'), { name, onload: () => resolve('sent') })
        const form = Object.assign(document.createElement('form'), { method: 'POST', action: broker + path, enctype, target: name })
        form.append(Object.assign(document.createElement('input'), { name: '{"name":"made by another site","x":"', value: '"}' }))
        document.body.append(frame, form)
        form.submit()
      }))
    }
  }
  for (const method of ['DELETE', 'PUT', 'PATCH']) {
    await note(`cors ${method}`, fetch(`${broker}/chat/rooms/${room}`, { method, credentials: 'include', headers: { 'X-Chat-CSRF': '1' } }).then((r) => `answered ${r.status}`))
  }
  await note('cors DELETE /chat/token', fetch(`${broker}/chat/token`, { method: 'DELETE', credentials: 'include', headers: { 'X-Chat-CSRF': '1' } }).then((r) => `answered ${r.status}`))
  await note('websocket', new Promise((resolve) => {
    const socket = new WebSocket(`${broker.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`)
    const heard = []
    socket.onmessage = ({ data }) => {
      heard.push(String(data).slice(0, 2))
      if (heard.length === 1) { socket.send('40'); socket.send(`42["joinRoom",{"room_id":"${room}"}]`); socket.send(`42["sendMessage",{"room_id":"${room}","content":"said by another site"}]`) }
    }
    socket.onclose = () => resolve(heard)
    socket.onerror = () => resolve(['error', ...heard])
    setTimeout(() => resolve(heard), 1500)
  }))
  return results
}

const attacks = []
for (const from of [`http://localhost:${otherPort}/`, `http://127.0.0.1:${otherPort}/`]) {
  const { page, statuses } = await open(from)
  attacks.push({ from, results: await page.evaluate(tricks, { broker, room }), statuses })
}
await context.close()
await rm(profile, { recursive: true, force: true })
for (const server of servers) { server.closeAllConnections(); server.close() }
console.log(JSON.stringify({ listed, attacks }))
