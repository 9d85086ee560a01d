// What somebody would build on Fastify: its proxy, fast-jwt with its cache, better-sqlite3 for a chat of its own.
// MODE=proxy passes rooms on to UPSTREAM; MODE=store keeps messages itself (every commit on disk, as ours).
// WATCHED=on adds what nobody runs a service without: a log line, metrics, and a limit for each user.
import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import proxy from '@fastify/http-proxy'
import { createSigner, createVerifier } from 'fast-jwt'

const { PORT, UPSTREAM, API_KEY, APP_SECRET, ISSUER, AUDIENCE, MODE, CACHE, DATABASE, WATCHED } = process.env
const verify = createVerifier({
  key: APP_SECRET,
  algorithms: ['HS256'],
  allowedIss: ISSUER,
  allowedAud: AUDIENCE,
  requiredClaims: ['exp', 'sub', 'iss', 'aud'],
  cache: CACHE === 'off' ? false : 10_000,
})
const app = Fastify({ logger: WATCHED === 'on', disableRequestLogging: true })

function check(request, reply, done) {
  const [scheme, token] = (request.headers.authorization ?? '').split(' ')
  if (scheme !== 'Bearer' || !token) return reply.code(401).send({ code: 'authentication_required' })
  try {
    request.who = verify(token).sub
  } catch {
    return reply.code(401).send({ code: 'invalid_credentials' })
  }
  done()
}

if (WATCHED === 'on') {
  const { default: rateLimit } = await import('@fastify/rate-limit')
  const { Counter, Histogram } = await import('prom-client')
  const requests = new Counter({ name: 'requests_total', help: 'answered', labelNames: ['method', 'route', 'status'] })
  const seconds = new Histogram({ name: 'request_seconds', help: 'took', labelNames: ['route'] })
  await app.register(rateLimit, {
    max: 100_000_000,
    timeWindow: 60_000,
    hook: 'preHandler',
    keyGenerator: (request) => request.who ?? request.ip,
  })
  app.addHook('onResponse', (request, reply, done) => {
    const route = request.routeOptions.url
    requests.inc({ method: request.method, route, status: reply.statusCode })
    seconds.observe({ route }, reply.elapsedTime / 1000)
    request.log.info({ method: request.method, path: request.url, status: reply.statusCode, ms: reply.elapsedTime }, 'request')
    done()
  })
}

if (MODE === 'proxy') {
  await app.register(proxy, {
    upstream: UPSTREAM,
    prefix: '/chat/rooms',
    rewritePrefix: '/api/v1/projects/project-1/rooms',
    proxyPayloads: false,
    preHandler(request, reply, done) {
      check(request, reply, () => {
        if (request.body) request.body = { content: request.body.content, user_id: `u-${request.who}` }
        done()
      })
    },
    replyOptions: {
      rewriteRequestHeaders(_request, headers) {
        const { authorization, cookie, ...kept } = headers
        return { ...kept, 'x-api-key': API_KEY }
      },
    },
  })
  await app.register(proxy, { upstream: UPSTREAM, prefix: '/chat/verify', rewritePrefix: '/api/v1/auth/verify' })
}

if (MODE === 'store') {
  const { default: Sqlite } = await import('better-sqlite3')
  const db = new Sqlite(DATABASE)
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = FULL')
  db.exec(`
    CREATE TABLE users (id TEXT PRIMARY KEY, external_id TEXT UNIQUE NOT NULL, username TEXT NOT NULL,
      display_name TEXT NOT NULL, status TEXT NOT NULL, generation INTEGER NOT NULL);
    CREATE TABLE rooms (id TEXT PRIMARY KEY, last_seq INTEGER NOT NULL);
    CREATE TABLE members (room_id TEXT NOT NULL, user_id TEXT NOT NULL, PRIMARY KEY (room_id, user_id));
    CREATE TABLE messages (id TEXT PRIMARY KEY, room_id TEXT NOT NULL, seq INTEGER NOT NULL, user_id TEXT NOT NULL,
      content TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE (room_id, seq));
    INSERT INTO rooms VALUES ('room-1', 0);
  `)
  const addUser = db.prepare('INSERT INTO users VALUES (?, ?, ?, ?, ?, 0) RETURNING *')
  const byExternal = db.prepare('SELECT * FROM users WHERE external_id = ?')
  const join = db.prepare('INSERT INTO members VALUES (?, ?)')
  const member = db.prepare('SELECT 1 FROM members WHERE room_id = ? AND user_id = ?')
  const nextSeq = db.prepare('UPDATE rooms SET last_seq = last_seq + 1 WHERE id = ? RETURNING last_seq')
  const add = db.prepare('INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)')
  const latest = db.prepare('SELECT * FROM messages WHERE room_id = ? ORDER BY seq DESC LIMIT 50')
  const post = db.transaction((room, user, content) => {
    if (!member.get(room, user)) return null
    const { last_seq: seq } = nextSeq.get(room)
    const message = { id: randomUUID(), room_id: room, seq, user_id: user, content, created_at: new Date().toISOString() }
    add.run(message.id, room, seq, user, content, message.created_at)
    return message
  })
  const sign = createSigner({ key: APP_SECRET.split('').reverse().join(''), algorithm: 'HS256', expiresIn: 900_000 })
  const me = (external) => {
    const known = byExternal.get(external)
    if (known) return known
    const user = addUser.get(randomUUID(), external, external, external, 'active')
    join.run('room-1', user.id)
    return user
  }

  app.get('/chat/token', { preHandler: check }, (request, reply) => {
    const user = me(request.who)
    if (user.status !== 'active') return reply.code(403).send({ code: 'user_suspended' })
    const token = sign({ sub: user.id, ext: user.external_id, name: user.username, sid: randomUUID(), jti: randomUUID(), gen: user.generation })
    reply.header('cache-control', 'no-store')
    return reply.send({ token, token_type: 'Bearer', expires_in: 900, user })
  })
  app.post('/chat/rooms/:room/messages', { preHandler: check }, (request, reply) => {
    const { content } = request.body ?? {}
    if (typeof content !== 'string' || !content || content.length > 8000) return reply.code(400).send({ code: 'bad_input' })
    const message = post.immediate(request.params.room, me(request.who).id, content)
    if (!message) return reply.code(404).send({ code: 'room_not_found' })
    return reply.code(201).send(message)
  })
  app.get('/chat/rooms/:room/messages', { preHandler: check }, (request, reply) => {
    if (!member.get(request.params.room, me(request.who).id)) return reply.code(404).send({ code: 'room_not_found' })
    return reply.send({ items: latest.all(request.params.room) })
  })
}

await app.listen({ port: Number(PORT), host: '127.0.0.1', backlog: 1024 })
