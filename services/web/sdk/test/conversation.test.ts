import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Conversation } from '../src/index.js'
import { type FakeSocket, message, pushed, settle, World } from './fake.js'

/** What is shown, in short. */
function shown(chat: Conversation) {
  return chat.getSnapshot().messages.map((m) => (m.recalled ? `(${m.seq})` : `${m.seq ?? '-'} ${m.content}`))
}

function page(socket: FakeSocket, messages: object[], more = false) {
  const frame = socket.take('history')
  socket.answer(frame, 'messages', { conversation: frame.body.conversation, messages, more })
  return frame
}

/** A conversation that is open and shows what history has. */
async function opened(messages = [message(5), message(8)], more = false) {
  const world = new World()
  const socket = await world.connected()
  const chat = world.client.direct(1002)
  chat.subscribe(() => {})
  page(socket, messages, more)
  await settle()
  const readers = socket.take('readers')
  assert.deepEqual(readers.body, { conversation: 'u:1001:1002', seq: 1 })
  socket.answer(readers, 'readers', { readers: [{ user: 1002, seq: 5 }] })
  await settle()
  return { world, socket, chat }
}

test('loads the newest messages for its first listener, and shows what is pushed behind them', async () => {
  const { chat, socket } = await opened()
  assert.deepEqual(shown(chat), ['5 text 5', '8 text 8'])
  const { loaded, more, reads, loading } = chat.getSnapshot()
  assert.deepEqual({ loaded, more, reads, loading }, { loaded: true, more: false, reads: { 1002: 5 }, loading: false })
  socket.push(pushed(12))
  assert.deepEqual(shown(chat), ['5 text 5', '8 text 8', '12 text 12'])
})

test('a snapshot is the same object until something changes, and so is a message', async () => {
  const { chat, socket } = await opened()
  let calls = 0
  const stop = chat.subscribe(() => calls++)
  const before = chat.getSnapshot()
  assert.equal(chat.getSnapshot(), before)
  socket.push(pushed(12))
  const after = chat.getSnapshot()
  assert.notEqual(after, before)
  assert.equal(after.messages[0], before.messages[0])
  assert.equal(before.messages.length, 2)
  assert.equal(calls, 1)
  stop()
  socket.push(pushed(13))
  assert.equal(calls, 1)
})

test('shows a message once, at its lower seq', async () => {
  const { chat, socket } = await opened()
  socket.push(pushed(12))
  socket.push(pushed(14))
  socket.push(pushed(15, { message_id: 'm12' }))
  assert.deepEqual(shown(chat), ['5 text 5', '8 text 8', '12 text 12', '14 text 14'])
  socket.push(pushed(11, { message_id: 'm14', content: 'text 14' }))
  assert.deepEqual(shown(chat), ['5 text 5', '8 text 8', '11 text 14', '12 text 12'])
})

test('puts at its place what comes late', async () => {
  const { chat, socket } = await opened()
  socket.push(pushed(20))
  socket.push(pushed(14))
  assert.deepEqual(shown(chat), ['5 text 5', '8 text 8', '14 text 14', '20 text 20'])
})

test('follows edits and recalls', async () => {
  const { chat, socket } = await opened()
  socket.push({ type: 'message_edited', pos: '0:12', conversation: 'u:1001:1002', seq: 5, message_id: 'm5', content: 'new', extra: { x: 1 } })
  socket.push({ type: 'message_recalled', pos: '0:13', conversation: 'u:1001:1002', seq: 8, message_id: 'm8' })
  socket.push({ type: 'message_recalled', pos: '0:14', conversation: 'u:1001:1002', seq: 2, message_id: 'unknown' })
  assert.deepEqual(shown(chat), ['5 new', '(8)'])
  const [edited, recalled] = chat.getSnapshot().messages
  assert.deepEqual(edited?.extra, { x: 1 })
  assert.ok(edited?.edited_at)
  assert.equal(recalled?.content, undefined)
})

test('hides everything that a recalled message had', async () => {
  const { chat, socket } = await opened()
  socket.push(pushed(12, { extra: { x: 1 }, reply_to: 'm5', mentions: [1001] }))
  assert.equal(chat.getSnapshot().messages.at(-1)?.reply_to, 'm5')
  socket.push({ type: 'message_recalled', pos: '0:13', conversation: 'u:1001:1002', seq: 12, message_id: 'm12' })
  const { content, extra, reply_to, mentions, recalled } = chat.getSnapshot().messages.at(-1) ?? {}
  assert.deepEqual([content, extra, reply_to, mentions, recalled], [undefined, undefined, undefined, undefined, true])
})

test('applies on top of a page what was pushed before the page came', async () => {
  const world = new World()
  const socket = await world.connected()
  socket.push(pushed(8))
  socket.push(pushed(9, {}, 'u:1001:1003'))
  const chat = world.client.direct(1002)
  void chat.load()
  const history = socket.take('history')
  socket.push({ type: 'message_edited', pos: '0:12', conversation: 'u:1001:1002', seq: 5, message_id: 'm5', content: 'new' })
  socket.push(pushed(13))
  // The page was read before all of that.
  socket.answer(history, 'messages', { conversation: 'u:1001:1002', messages: [message(5)], more: false })
  await settle()
  assert.deepEqual(shown(chat), ['5 new', '8 text 8', '13 text 13'])
})

test('loads older messages page by page, and leaves out pushes about messages older than those', async () => {
  const { chat, socket } = await opened([message(50), message(60)], true)
  assert.equal(chat.getSnapshot().more, true)
  socket.push(pushed(40)) // late, and the next page has it
  assert.deepEqual(shown(chat), ['50 text 50', '60 text 60'])
  const older = chat.loadOlder()
  void chat.loadOlder()
  await settle()
  assert.equal(chat.getSnapshot().loading, true)
  assert.deepEqual(page(socket, [message(30), message(40)], true).body, { conversation: 'u:1001:1002', before_seq: 50, limit: 50 })
  await older
  assert.deepEqual(socket.frames, [])
  assert.deepEqual(shown(chat), ['30 text 30', '40 text 40', '50 text 50', '60 text 60'])
  const oldest = chat.loadOlder()
  await settle()
  page(socket, [message(20)])
  await oldest
  assert.equal(chat.getSnapshot().more, false)
  await chat.loadOlder()
  assert.deepEqual(socket.frames, [])
})

test('loads itself again after pushes were missed for good, as far back as it was', async () => {
  const { world, chat } = await opened([message(50), message(60)], true)
  const missed: object[] = []
  world.client.on('missed', (event) => missed.push(event))
  const socket = await world.reconnected({ recovered: false, cursor: { 0: 900 } })
  assert.equal(missed.length, 1)
  assert.deepEqual(shown(chat), ['50 text 50', '60 text 60'], 'meanwhile what was there stays')
  const newest = socket.take('history')
  assert.deepEqual(newest.body, { conversation: 'u:1001:1002', limit: 50 })
  socket.push(pushed(901))
  socket.push({ type: 'message_edited', pos: '0:902', conversation: 'u:1001:1002', seq: 800, message_id: 'm800', content: 'new' })
  socket.answer(newest, 'messages', { conversation: 'u:1001:1002', messages: [message(800), message(900)], more: true })
  await settle()
  assert.deepEqual(page(socket, [message(50, { content: 'edited meanwhile' }), message(70)], true).body.before_seq, 800)
  await settle()
  assert.deepEqual(shown(chat), ['50 edited meanwhile', '70 text 70', '800 new', '900 text 900', '901 text 901'])
  assert.equal(chat.getSnapshot().more, true)
})

test('does not believe pushes from before a gap more than the history after it', async () => {
  const { world, chat, socket: before } = await opened()
  before.push({ type: 'message_edited', pos: '0:12', conversation: 'u:1001:1002', seq: 5, message_id: 'm5', content: 'first edit' })
  const socket = await world.reconnected({ recovered: false })
  page(socket, [message(5, { content: 'second edit' }), message(8)])
  await settle()
  assert.deepEqual(shown(chat), ['5 second edit', '8 text 8'])
})

test('a load that a gap has overtaken is dropped', async () => {
  const { world, chat, socket: before } = await opened([message(50)], true)
  void chat.loadOlder()
  await settle()
  before.take('history')
  const socket = await world.reconnected({ recovered: false })
  const frames = socket.frames.splice(0)
  const [older, newest] = [frames.find(({ body }) => body.before_seq), frames.find(({ body }) => body.limit && !body.before_seq)]
  assert.ok(older && newest)
  socket.answer(newest, 'messages', { messages: [message(90)], more: false })
  await settle()
  socket.answer(older, 'messages', { messages: [message(40)], more: false })
  await settle()
  assert.deepEqual(shown(chat), ['90 text 90'])
})

test('tells why history cannot be loaded, and loads it when asked again', async () => {
  const world = new World()
  const socket = await world.connected()
  const chat = world.client.group(77)
  await Promise.all([chat.load(), settle().then(() => socket.refuse(socket.take('history'), 'not_found'))])
  assert.equal(chat.getSnapshot().error?.code, 'not_found')
  const again = chat.load()
  page(socket, [])
  await again
  assert.deepEqual([chat.getSnapshot().error, chat.getSnapshot().loaded], [undefined, true])
})

test('loads a group again when the user has joined it', async () => {
  const world = new World()
  const socket = await world.connected()
  const chat = world.client.group(77)
  void chat.load()
  page(socket, [])
  await settle()
  socket.push({ type: 'member_joined', pos: '0:30', group_id: 77, user: 1003, by: 1002 })
  assert.deepEqual(socket.frames, [])
  socket.push({ type: 'member_joined', pos: '0:31', group_id: 77, user: 1001, by: 1002 })
  page(socket, [message(32, { group_id: 77 })])
  await settle()
  assert.deepEqual(shown(chat), ['32 text 32'])
})

const own = { from: 1001, to: 1002 }

test('an own message stands behind all others until its push tells its place, whichever comes first', async () => {
  const { chat, socket } = await opened()
  void chat.send('mine')
  socket.push(pushed(10))
  assert.deepEqual(shown(chat), ['5 text 5', '8 text 8', '10 text 10', '- mine'])
  const send = socket.take('send')
  const { client_msg_id } = send.body
  socket.answer(send, 'sent', { message_id: 'mine', conversation: 'u:1001:1002', timestamp: 1, replaced: true })
  assert.deepEqual(shown(chat), ['5 text 5', '8 text 8', '10 text 10', '- mine'])
  socket.push(pushed(9, { ...own, message_id: 'mine', client_msg_id, content: 'as the rules want it' }))
  assert.deepEqual(shown(chat), ['5 text 5', '8 text 8', '9 as the rules want it', '10 text 10'])

  void chat.send('second')
  const second = socket.take('send')
  socket.push(pushed(12, { ...own, message_id: 'second', client_msg_id: second.body.client_msg_id, content: 'second' }))
  assert.deepEqual(shown(chat).slice(3), ['10 text 10', '12 second'])
  socket.answer(second, 'sent', { message_id: 'second', conversation: 'u:1001:1002', timestamp: 1 })
  assert.deepEqual(shown(chat).slice(3), ['10 text 10', '12 second'])
})

test('an own message whose push was missed is shown once after the reload', async () => {
  const { world, chat, socket: before } = await opened()
  void chat.send('mine')
  const { client_msg_id } = before.take('send').body
  const socket = await world.reconnected({ recovered: false })
  const send = socket.frames.find(({ verb }) => verb === 'send')
  const history = socket.frames.find(({ verb }) => verb === 'history')
  assert.ok(send && history)
  socket.answer(history, 'messages', { messages: [message(9, { ...own, message_id: 'mine', client_msg_id, content: 'mine' })], more: false })
  await settle()
  assert.deepEqual(shown(chat), ['9 mine'])
  socket.answer(send, 'sent', { message_id: 'mine', conversation: 'u:1001:1002', timestamp: 1 })
  assert.deepEqual(shown(chat), ['9 mine'])
})

test('edits, recalls, settings and sends of a conversation are made one after the other', async () => {
  const { chat, socket } = await opened()
  const done = Promise.all([
    chat.edit('m5', 'new', { x: 1 }), chat.recall('m8'), chat.settings({ pinned: true }), chat.send('last'),
  ])
  const edit = socket.take('edit')
  assert.ok(edit.body.client_msg_id)
  assert.deepEqual(socket.frames, [])
  socket.answer(edit, 'ok')
  socket.answer(socket.take('recall'), 'ok')
  const settings = socket.take('settings')
  assert.deepEqual(settings.body, { conversation: 'u:1001:1002', pinned: true })
  socket.answer(settings, 'ok')
  socket.answer(socket.take('send'), 'sent', { message_id: 'x' })
  await done
  const refused = chat.recall('m5')
  socket.refuse(socket.take('recall'), 'permission_denied')
  await assert.rejects(refused, { code: 'permission_denied' })
})

test('marks as read up to the newest message, one request at a time, and never backwards', async () => {
  const { chat, socket } = await opened()
  chat.read()
  const first = socket.take('read')
  assert.deepEqual(first.body, { conversation: 'u:1001:1002', seq: 8 })
  socket.push(pushed(12))
  chat.read()
  socket.push(pushed(14))
  chat.read()
  chat.read(5)
  assert.deepEqual(socket.frames, [])
  socket.answer(first, 'ok')
  assert.equal(socket.take('read').body.seq, 14)
  socket.push({ type: 'message_read', conversation: 'u:1001:1002', user: 1002, seq: 12 })
  socket.push({ type: 'message_read', conversation: 'u:1001:1002', user: 1002, seq: 8 })
  assert.deepEqual(chat.getSnapshot().reads, { 1002: 12 })
})

test('asks for marks again over a new connection', async () => {
  const { world, chat } = await opened()
  const socket = await world.reconnected()
  socket.answer(socket.take('readers'), 'readers', { readers: [{ user: 1002, seq: 8 }] })
  await settle()
  assert.deepEqual(chat.getSnapshot().reads, { 1002: 8 })
})

test('tells that the user is writing at most every three seconds, and who else is for five', async () => {
  const { world, chat, socket } = await opened()
  chat.typing()
  chat.typing()
  assert.deepEqual(socket.take('typing').body, { to: 1002 })
  assert.deepEqual(socket.frames, [])
  await world.clock.advance(3_000)
  chat.typing()
  socket.take('typing')
  socket.push({ type: 'typing', from: 1002, to: 1001 })
  socket.push({ type: 'typing', from: 1001, to: 1002 }) // on another device
  assert.deepEqual(chat.getSnapshot().typing, [1002])
  await world.clock.advance(5_001)
  assert.deepEqual(chat.getSnapshot().typing, [])
  socket.push({ type: 'typing', from: 1002, to: 1001 })
  socket.push(pushed(12))
  assert.deepEqual(chat.getSnapshot().typing, [])
  world.client.disconnect()
  chat.typing() // is not worth waiting for
})
