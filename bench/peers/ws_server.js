// The peer `ws` on Node: one process, compression off, an event is turned to text once and sent to each subscriber.
'use strict';

const { WebSocketServer } = require('ws');

const subscribers = new Map();
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
  if (!subscribers.has(stream)) subscribers.set(stream, new Set());
  subscribers.get(stream).add(socket);
  const head = heads.get(stream) || 0;
  return { head, after: head };
}

function handle(socket, message) {
  switch (message.op) {
    case 'ping':
      return { op: 'pong', id: message.id, time: now() };
    case 'send': {
      const { stream } = message;
      const seq = (heads.get(stream) || 0) + 1;
      const at = now();
      heads.set(stream, seq);
      const event = JSON.stringify({
        op: 'event', stream, seq, type: message.type, key: message.key, by: 'user:bench', at, body: message.body,
      });
      for (const other of subscribers.get(stream) || []) other.send(event);
      return { op: 'ok', id: message.id, stream, seq, at, dup: false };
    }
    case 'hello': {
      const streams = {};
      for (const stream of Object.keys(message.streams || {})) streams[stream] = join(socket, stream);
      return { op: 'welcome', id: message.id, streams };
    }
    case 'sub':
      return { op: 'ok', id: message.id, stream: message.stream, ...join(socket, message.stream) };
    default:
      return { op: 'error', id: message.id, code: 'unknown_op' };
  }
}

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false, backlog: 4096 });
server.on('connection', (socket) => {
  socket.on('message', (data) => socket.send(JSON.stringify(handle(socket, JSON.parse(data)))));
  socket.on('error', () => socket.terminate());
  socket.on('close', () => subscribers.forEach((members) => members.delete(socket)));
});
server.on('listening', () => process.stdout.write(`listening ${server.address().port}\n`));
