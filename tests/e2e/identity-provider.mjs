// A real identity provider for the tests: panva's oidc-provider, with levers.
//   node identity-provider.mjs PORT
// POST /control/token {sub, format: "jwt" | "opaque" | "profile", audience?, expires_in?}  → {token}; a "profile" is
//      an opaque token for no resource, which opens the userinfo endpoint
// POST /control/rotate {publish_first?: true} → a new signing key; with publish_first it is only published yet
// GET  /control/hits → how often each path was asked for
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { createServer } from 'node:http'

import { Provider } from 'oidc-provider'

const port = Number(process.argv[2])
const issuer = `http://127.0.0.1:${port}`
const resource = 'https://chat.example.com'
const hits = {}

function newKey () {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' }
}

let keys = [newKey()] // the first one signs

function resourceServer (format, audience) {
  return {
    audience: audience ?? resource,
    scope: 'chat',
    accessTokenFormat: format,
    accessTokenTTL: 300,
    jwt: { sign: { alg: 'RS256' } }
  }
}

function start () {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [
      { client_id: 'app', client_secret: 'app-secret', redirect_uris: [`${issuer}/cb`], scope: 'openid profile chat' },
      { client_id: 'broker', client_secret: 'broker-secret/of:broker', redirect_uris: [], response_types: [], grant_types: [] }
    ],
    scopes: ['openid', 'profile', 'chat'],
    claims: { openid: ['sub'], profile: ['name', 'preferred_username'] },
    features: {
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: { enabled: true, getResourceServerInfo: (_, indicator) => resourceServer('jwt', indicator) }
    },
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, name: `${sub} of the provider`, preferred_username: sub }) })
  })
  provider.on('server_error', (_, error) => console.error(error))
  return provider
}

let provider = start()

async function mint ({ sub, format, audience, expires_in: expiresIn }) {
  const client = await provider.Client.find('app')
  const grant = new provider.Grant({ accountId: sub, clientId: 'app' })
  grant.addOIDCScope('openid profile')
  grant.addResourceScope(resource, 'chat')
  const token = new provider.AccessToken({ accountId: sub, client, grantId: await grant.save(), scope: 'chat', gty: 'authorization_code' })
  if (format === 'profile') token.scope = 'openid profile'
  else token.resourceServer = new provider.ResourceServer(audience ?? resource, resourceServer(format, audience))
  token.expiresIn = expiresIn ?? 300
  return { token: await token.save() }
}

async function body (request) {
  let text = ''
  for await (const chunk of request) text += chunk
  return text ? JSON.parse(text) : {}
}

const control = {
  '/control/token': async (options) => mint(options),
  '/control/rotate': async ({ publish_first: publishFirst }) => {
    const known = keys.length > 1 && !publishFirst ? keys.reverse() : [newKey(), ...keys]
    keys = publishFirst ? known.reverse() : known
    provider = start()
    return { kids: keys.map(({ kid }) => kid) }
  },
  '/control/drop': async () => {
    keys = [newKey()]
    provider = start()
    return { kids: keys.map(({ kid }) => kid) }
  },
  '/control/hits': async () => hits
}

createServer(async (request, response) => {
  const path = request.url.split('?')[0]
  if (!(path in control)) {
    hits[path] = (hits[path] ?? 0) + 1
    return provider.callback()(request, response)
  }
  try {
    const answer = JSON.stringify(await control[path](await body(request)))
    response.writeHead(200, { 'content-type': 'application/json' }).end(answer)
  } catch (error) {
    response.writeHead(500).end(String(error.stack))
  }
}).listen(port, '127.0.0.1', () => console.log(`ready ${issuer}`))
