// The same proxy on Express, with http-proxy-middleware and jsonwebtoken.
import { createSecretKey } from 'node:crypto'
import http from 'node:http'
import express from 'express'
import { createProxyMiddleware, fixRequestBody } from 'http-proxy-middleware'
import jwt from 'jsonwebtoken'

const { PORT, UPSTREAM, API_KEY, APP_SECRET, ISSUER, AUDIENCE } = process.env
// A KeyObject: with a string secret jsonwebtoken needs twice the time.
const secret = createSecretKey(Buffer.from(APP_SECRET))
const app = express()

app.use('/chat/rooms', (request, response, next) => {
  const [scheme, token] = (request.headers.authorization ?? '').split(' ')
  if (scheme !== 'Bearer' || !token) return response.status(401).json({ code: 'authentication_required' })
  try {
    request.who = jwt.verify(token, secret, { algorithms: ['HS256'], issuer: ISSUER, audience: AUDIENCE }).sub
  } catch {
    return response.status(401).json({ code: 'invalid_credentials' })
  }
  next()
})
app.post('/chat/rooms/:room/messages', express.json(), (request, _response, next) => {
  request.body = { content: request.body.content, user_id: `u-${request.who}` }
  next()
})
const common = { target: UPSTREAM, agent: new http.Agent({ keepAlive: true }) }
app.use(
  createProxyMiddleware({
    ...common,
    pathFilter: '/chat/rooms',
    pathRewrite: { '^/chat/rooms': '/api/v1/projects/project-1/rooms' },
    on: {
      proxyReq(upstream, request) {
        upstream.setHeader('x-api-key', API_KEY)
        upstream.removeHeader('authorization')
        upstream.removeHeader('cookie')
        fixRequestBody(upstream, request)
      },
    },
  }),
)
app.use(createProxyMiddleware({ ...common, pathFilter: '/chat/verify', pathRewrite: { '^/chat/verify': '/api/v1/auth/verify' } }))
app.listen({ port: Number(PORT), host: '127.0.0.1', backlog: 1024 })
