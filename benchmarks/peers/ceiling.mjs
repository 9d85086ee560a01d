// As little as Node can do and still check the token: node:http, undici, a verifier with a cache.
import http from 'node:http'
import { createVerifier } from 'fast-jwt'
import { Pool } from 'undici'

const { PORT, UPSTREAM, API_KEY, APP_SECRET, ISSUER, AUDIENCE } = process.env
const verify = createVerifier({
  key: APP_SECRET,
  algorithms: ['HS256'],
  allowedIss: ISSUER,
  allowedAud: AUDIENCE,
  requiredClaims: ['exp', 'sub', 'iss', 'aud'],
  cache: 10_000,
})
const pool = new Pool(UPSTREAM, { connections: 64 })

function refuse(response, status, code) {
  const body = JSON.stringify({ code })
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
  response.end(body)
}

async function pass(request, response, who) {
  const path = request.url.replace('/chat/rooms/', '/api/v1/projects/project-1/rooms/')
  let body
  if (request.method === 'POST') {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const { content } = JSON.parse(Buffer.concat(chunks).toString())
    body = JSON.stringify({ content, user_id: `u-${who}` })
  }
  const headers = { 'x-api-key': API_KEY, ...(body && { 'content-type': 'application/json' }) }
  const upstream = await pool.request({ method: request.method, path, headers, body })
  const answer = Buffer.from(await upstream.body.arrayBuffer())
  response.writeHead(upstream.statusCode, { 'content-type': 'application/json', 'content-length': answer.length })
  response.end(answer)
}

http
  .createServer((request, response) => {
    const [scheme, token] = (request.headers.authorization ?? '').split(' ')
    if (scheme !== 'Bearer' || !token) return refuse(response, 401, 'authentication_required')
    let who
    try {
      who = verify(token).sub
    } catch {
      return refuse(response, 401, 'invalid_credentials')
    }
    if (!request.url.startsWith('/chat/rooms/')) return refuse(response, 404, 'not_found')
    pass(request, response, who).catch(() => refuse(response, 502, 'upstream_failed'))
  })
  .listen({ port: Number(PORT), host: '127.0.0.1', backlog: 1024 })
