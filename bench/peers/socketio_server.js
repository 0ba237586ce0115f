// The peer Socket.IO on Node: WebSocket transport only, compression off, rooms for streams, acknowledgements for answers.
// READBACK_BENCH_RECOVERY=1 turns on its connection state recovery (in memory, two minutes), for the jitter scenario.
'use strict';

const { createServer } = require('node:http');
const { Server } = require('socket.io');

const heads = new Map();
let clockAt = 0;
let clockText = '';

function now() {
  const at = Date.now();
  if (at !== clockAt) {
    clockAt = at;
    clockText = new Date(at).toISOString();
  }
  return clockText;
}

function join(socket, stream) {
  socket.join(stream);
  const head = heads.get(stream) || 0;
  return { head, after: head };
}

const recovery = process.env.READBACK_BENCH_RECOVERY === '1';
const http = createServer();
const io = new Server(http, {
  transports: ['websocket'],
  perMessageDeflate: false,
  serveClient: false,
  ...(recovery ? { connectionStateRecovery: { maxDisconnectionDuration: 120000 } } : {}),
});

io.on('connection', (socket) => {
  socket.on('ping', (message, answer) => answer({ op: 'pong', id: message.id, time: now() }));
  socket.on('hello', (message, answer) => {
    const streams = {};
    for (const stream of Object.keys(message.streams || {})) streams[stream] = join(socket, stream);
    answer({ op: 'welcome', id: message.id, recovered: socket.recovered, streams });
  });
  socket.on('send', (message, answer) => {
    const { stream } = message;
    const seq = (heads.get(stream) || 0) + 1;
    const at = now();
    heads.set(stream, seq);
    io.to(stream).emit('event', {
      op: 'event', stream, seq, type: message.type, key: message.key, by: 'user:bench', at, body: message.body,
    });
    answer({ op: 'ok', id: message.id, stream, seq, at, dup: false });
  });
});
http.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  process.stdout.write(`listening ${http.address().port}\n`);
});
