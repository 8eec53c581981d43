import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Head } from '../src/index.js'
import { type FakeSocket, message, pushed, settle, World } from './fake.js'

function head(conversation: string, other: Partial<Head> = {}): Head {
  return { conversation, last: message(5), unread: 0, read_seq: 5, ...other }
}

/** An inbox that shows the conversations. */
async function inboxOf(...conversations: Head[]) {
  const world = new World()
  const socket = await world.connected()
  world.client.inbox.subscribe(() => {})
  list(socket, conversations)
  await settle()
  const shown = () => world.client.inbox.getSnapshot().conversations.map((h) => `${h.conversation} ${h.unread} ${h.last?.content ?? '-'}`)
  return { world, socket, inbox: world.client.inbox, shown }
}

function list(socket: FakeSocket, conversations: Head[], rest: object = { more: false }) {
  const frame = socket.take('conversations')
  socket.answer(frame, 'conversations', { conversations, ...rest })
  return frame
}

test('the inbox follows messages, edits, marks and settings', async () => {
  const { socket, inbox, shown } = await inboxOf(head('u:1001:1003'), head('u:1001:1002'))
  socket.push(pushed(9))
  socket.push(pushed(10, { from: 1001 }))
  socket.push(pushed(9)) // a repeat
  assert.deepEqual(shown(), ['u:1001:1002 1 text 10', 'u:1001:1003 0 text 5'])
  socket.push({ type: 'message_edited', conversation: 'u:1001:1002', seq: 10, message_id: 'm10', content: 'new' })
  socket.push({ type: 'message_read', conversation: 'u:1001:1002', user: 1002, seq: 10 })
  assert.deepEqual(shown()[0], 'u:1001:1002 1 new')
  socket.push({ type: 'message_read', conversation: 'u:1001:1002', user: 1001, seq: 10 })
  assert.deepEqual(shown()[0], 'u:1001:1002 0 new')
  socket.push({ type: 'message_recalled', conversation: 'u:1001:1002', seq: 10, message_id: 'm10' })
  assert.equal(inbox.getSnapshot().conversations[0]?.last?.recalled, true)
  socket.push({ type: 'settings_changed', conversation: 'u:1001:1003', hidden: true, pinned: true })
  assert.equal(inbox.getSnapshot().conversations[1]?.hidden, true)
  socket.push(pushed(11, {}, 'u:1001:1003'))
  const [first] = inbox.getSnapshot().conversations
  assert.deepEqual([first?.conversation, first?.hidden, first?.pinned], ['u:1001:1003', false, true])
  assert.deepEqual(socket.frames, [])
})

test('the inbox reads itself again for what a push does not tell', async () => {
  const { world, socket, shown } = await inboxOf(head('u:1001:1002', { unread: 5, last: message(50) }))
  socket.push({ type: 'message_read', conversation: 'u:1001:1002', user: 1001, seq: 30 })
  socket.push(pushed(51, {}, 'u:1001:1009')) // of a conversation that the list lacks, while it is read
  list(socket, [head('u:1001:1002', { unread: 2, read_seq: 30 })])
  await settle()
  list(socket, [head('u:1001:1009', { unread: 1 }), head('u:1001:1002', { unread: 2, read_seq: 30 })])
  await settle()
  assert.deepEqual(shown(), ['u:1001:1009 1 text 51', 'u:1001:1002 2 text 5'].map((s) => s.replace('1009 1', '1009 2')))
  assert.deepEqual(socket.frames, [])
  const next = await world.reconnected()
  assert.equal(next.take('conversations').body.next, undefined)
})

test('the inbox puts on top of a page what was pushed before it came', async () => {
  const world = new World()
  const socket = await world.connected()
  world.client.inbox.subscribe(() => {})
  socket.push(pushed(9))
  list(socket, [head('u:1001:1002')])
  await settle()
  const [first] = world.client.inbox.getSnapshot().conversations
  assert.deepEqual([first?.unread, first?.last?.seq], [1, 9])
})

test('the inbox loads further pages', async () => {
  const world = new World()
  const socket = await world.connected()
  void world.client.inbox.load()
  list(socket, [head('u:1001:1002')], { more: true, next: 'n1' })
  await settle()
  assert.equal(world.client.inbox.getSnapshot().more, true)
  void world.client.inbox.loadMore()
  void world.client.inbox.loadMore()
  await settle()
  assert.equal(list(socket, [head('u:1001:1003')]).body.next, 'n1')
  await settle()
  const { conversations, more } = world.client.inbox.getSnapshot()
  assert.deepEqual([conversations.map((h) => h.conversation), more], [['u:1001:1002', 'u:1001:1003'], false])
  assert.deepEqual(socket.frames, [])
})

test('a listener hears of a message once, and one that throws is reported and disturbs nobody', async (t) => {
  const reported: unknown[] = []
  Object.assign(globalThis, { reportError: (error: unknown) => reported.push(error) })
  t.after(() => Reflect.deleteProperty(globalThis, 'reportError'))
  const world = new World()
  const heard: string[] = []
  const mistake = new Error('of the application')
  world.client.on('new_message', () => {
    throw mistake
  })
  world.client.direct(1002).subscribe(() => {
    throw mistake
  })
  const stop = world.client.on('new_message', ({ message }) => heard.push(message.message_id))
  const socket = await world.connected()
  reported.length = 0
  socket.push(pushed(5))
  socket.push(pushed(6, { message_id: 'm5' }))
  stop()
  assert.equal(socket.push(pushed(7)), undefined)
  assert.deepEqual(heard, ['m5'])
  assert.deepEqual(new Set(reported), new Set([mistake]))
  assert.equal(reported.length, 3 + 2, 'three by the conversation, two by the listener')
})

test('presence is asked for all that are watched at once, and again over each connection', async () => {
  const world = new World()
  const socket = await world.connected()
  const [a, b] = [world.client.presence(1002), world.client.presence(1003)]
  a.subscribe(() => {})
  const stop = b.subscribe(() => {})
  await settle()
  const ask = socket.take('presence')
  assert.deepEqual(ask.body.users, [1002, 1003])
  socket.answer(ask, 'presence', { online: [1002], last_seen: { 1003: 99 } })
  assert.deepEqual([a.getSnapshot(), b.getSnapshot()], [{ online: true }, { online: false, last_seen: 99 }])
  socket.push({ type: 'user_online', user: 1003 })
  socket.push({ type: 'user_offline', user: 1002 })
  assert.equal(b.getSnapshot().online, true)
  assert.equal(a.getSnapshot().last_seen, Math.floor(world.clock.now() / 1000))
  stop()
  const next = await world.reconnected()
  assert.deepEqual(next.take('presence').body.users, [1002])
})

test('group changes are made in order, each with an id that makes a repeat safe', async () => {
  const world = new World()
  const socket = await world.connected()
  const { groups } = world.client
  const created = groups.create({ name: 'us', members: [1002] })
  const create = socket.take('group_create')
  assert.ok(create.body.client_msg_id)
  socket.answer(create, 'group', { group_id: 7, name: 'us', owner: 1001, members: [1001, 1002] })
  assert.equal((await created).group_id, 7)
  const calls: [string, Promise<unknown>][] = [
    ['group_join', groups.join(7)], ['group_add', groups.add(7, 1003)], ['group_rename', groups.rename(7, 'all')],
    ['group_role', groups.setRole(7, 1003, 'admin')], ['group_mute', groups.mute(7, 99)], ['group_remove', groups.remove(7, 1003)],
    ['group_leave', groups.leave(7)], ['group_dissolve', groups.dissolve(7)],
  ]
  for (const [verb, done] of calls) {
    const frame = socket.take(verb)
    assert.equal(frame.body.group_id, 7)
    assert.deepEqual(socket.frames, [])
    socket.answer(frame, 'ok')
    await done
  }
})

test('a request that is given up does not delay what is behind it', async () => {
  const world = new World()
  const giveUp = new AbortController()
  const waiting = world.client.request('history', { conversation: 'u:1001:1002' }, giveUp.signal)
  giveUp.abort(new Error('enough'))
  await assert.rejects(waiting, { message: 'enough' })
  await assert.rejects(world.client.request('ping', {}, giveUp.signal), { message: 'enough' })
  const socket = await world.connected()
  assert.deepEqual(socket.frames, [])

  const under = new AbortController()
  const asked = world.client.request('history', { conversation: 'u:1001:1002' }, under.signal)
  const frame = socket.take('history')
  under.abort(new Error('enough'))
  await assert.rejects(asked, { message: 'enough' })
  socket.answer(frame, 'messages') // nobody waits for it
})

test('blocks and unblocks', async () => {
  const world = new World()
  const socket = await world.connected()
  for (const verb of ['block', 'unblock'] as const) {
    const done = world.client[verb](1002)
    const frame = socket.take(verb)
    assert.deepEqual(frame.body, { user: 1002 })
    socket.answer(frame, 'ok')
    await done
  }
  const list = world.client.blocked()
  socket.answer(socket.take('blocked'), 'users', { users: [1002] })
  assert.deepEqual(await list, [1002])
})
