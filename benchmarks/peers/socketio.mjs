// A chat room on Node socket.io: the token is checked, a message goes to everybody in the room. Stores nothing.
import http from 'node:http'
import { createVerifier } from 'fast-jwt'
import { Server } from 'socket.io'

const { PORT, APP_SECRET } = process.env
const verify = createVerifier({ key: APP_SECRET, algorithms: ['HS256'], cache: 10_000 })
const server = http.createServer((_request, response) => response.end('ok'))
const io = new Server(server, { transports: ['websocket'] })
let seq = 0

io.use((socket, next) => {
  try {
    socket.data.user = verify(socket.handshake.auth.token).sub
    next()
  } catch {
    next(new Error('token_invalid'))
  }
})
io.on('connection', (socket) => {
  socket.on('joinRoom', (room, ack) => {
    socket.join(room)
    ack({ ok: true })
  })
  socket.on('sendMessage', (room, content, ack) => {
    seq += 1
    const message = {
      id: `message-${seq}`, room_id: room, seq, user_id: socket.data.user, username: socket.data.user,
      display_name: socket.data.user, content, client_msg_id: null, metadata: {},
      created_at: new Date().toISOString(), edited_at: null, deleted_at: null,
    }
    io.to(room).emit('message', message)
    ack({ ok: true, message })
  })
})
server.listen({ port: Number(PORT), host: '127.0.0.1', backlog: 1024 })
