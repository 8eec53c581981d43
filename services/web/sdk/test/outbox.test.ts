import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Locks, memoryStore, type OutboxStore, type StoredSend } from '../src/index.js'
import { type FakeSocket, settle, World } from './fake.js'

/** Takes a send, which must be of the content, and returns its client_msg_id. */
function takeSend(socket: FakeSocket, content: string) {
  const frame = socket.take('send')
  assert.equal(frame.body.content, content)
  return frame
}

const sent = { message_id: 'm1', conversation: 'u:1001:1002', timestamp: 1 }

function states(world: World, user = 1002) {
  return world.client.direct(user).getSnapshot().messages.map(({ content, state }) => `${content} ${state}`)
}

test('a send waits for a connection, is pending, and is accepted once the server says so', async () => {
  const world = new World()
  const chat = world.client.direct(1002)
  const accepted = chat.send({ content: 'a', extra: { x: 1 }, reply_to: 'm0', mentions: [1002], message_type: 100 })
  assert.deepEqual(states(world), ['a pending'])
  const socket = await world.connected()
  const { body, ...frame } = socket.take('send')
  const { client_msg_id, ...rest } = body
  assert.deepEqual(rest, { to: 1002, content: 'a', extra: { x: 1 }, reply_to: 'm0', mentions: [1002], message_type: 100 })
  assert.match(client_msg_id, /^[a-z0-9-]{16,64}$/)
  socket.answer({ ...frame, body }, 'sent', sent)
  assert.deepEqual(await accepted, sent)
  assert.deepEqual(states(world), ['a sent'])
  assert.equal(chat.getSnapshot().messages[0]?.message_id, 'm1')
})

test('sends of one conversation go one after the other, those of others beside them', async () => {
  const world = new World()
  const socket = await world.connected()
  for (const content of ['a', 'b']) void world.client.direct(1002).send(content)
  void world.client.group(77).send('g')
  const a = takeSend(socket, 'a')
  assert.equal(takeSend(socket, 'g').body.group_id, 77)
  assert.deepEqual(socket.frames, [])
  socket.answer(a, 'sent', sent)
  takeSend(socket, 'b')
})

test('what was unavailable is repeated with the same id, and what is behind it waits', async () => {
  for (const code of ['unavailable', 'rate_limited']) {
    const world = new World()
    const socket = await world.connected()
    for (const content of ['a', 'b']) void world.client.direct(1002).send(content)
    const first = takeSend(socket, 'a')
    socket.refuse(first, code)
    await settle()
    assert.deepEqual(socket.frames, [])
    await world.clock.advance(500)
    const again = takeSend(socket, 'a')
    assert.equal(again.body.client_msg_id, first.body.client_msg_id)
    assert.deepEqual(socket.frames, [])
    socket.answer(again, 'sent', sent)
    takeSend(socket, 'b')
  }
})

test('what was under way when the connection broke is repeated in order with the same ids', async () => {
  const world = new World()
  let socket = await world.connected()
  for (const content of ['a', 'b', 'c']) void world.client.direct(1002).send(content)
  const first = takeSend(socket, 'a')
  socket = await world.reconnected()
  const again = takeSend(socket, 'a')
  assert.equal(again.body.client_msg_id, first.body.client_msg_id)
  for (const [frame, next] of [[again, 'b']] as const) {
    socket.answer(frame, 'sent', sent)
    socket.answer(takeSend(socket, next), 'sent', { ...sent, message_id: 'm2' })
  }
  takeSend(socket, 'c')
})

test('a pause after unavailable ends with the connection', async () => {
  const world = new World()
  let socket = await world.connected()
  void world.client.direct(1002).send('a')
  socket.refuse(takeSend(socket, 'a'), 'unavailable')
  socket = await world.reconnected()
  await world.clock.advance(1_000)
  takeSend(socket, 'a')
  assert.deepEqual(socket.frames, [])
})

test('a refused message fails, delays nothing, and can be retried or discarded', async () => {
  const world = new World()
  const socket = await world.connected()
  const chat = world.client.direct(1002)
  const refused = chat.send('a')
  void chat.send('b')
  const first = takeSend(socket, 'a')
  socket.refuse(first, 'rejected', 'no such words')
  await assert.rejects(refused, { code: 'rejected', message: 'no such words' })
  assert.deepEqual(states(world), ['a failed', 'b pending'])
  assert.deepEqual(chat.getSnapshot().messages[0]?.error, { code: 'rejected', message: 'no such words' })
  socket.answer(takeSend(socket, 'b'), 'sent', sent)
  const id = chat.getSnapshot().messages.find(({ state }) => state === 'failed')?.client_msg_id as string
  assert.equal(id, first.body.client_msg_id)
  chat.retry(id)
  assert.deepEqual(states(world), ['b sent', 'a pending'])
  socket.refuse(takeSend(socket, 'a'), 'rejected')
  await settle()
  chat.discard(id)
  assert.deepEqual(states(world), ['b sent'])
})

test('a message that no frame holds is refused without a server', async () => {
  const world = new World()
  await assert.rejects(world.client.direct(1002).send('€'.repeat(22_000)), { code: 'too_large' })
  assert.equal((await world.connected()).frames.length, 0)
})

/** A store that says what it holds, and can be made to fail. */
function watchedStore() {
  const inner = memoryStore()
  const store = {
    ...inner,
    broken: false,
    put: (send: StoredSend) => (store.broken ? Promise.reject(new Error('full')) : inner.put(send)),
    contents: async () => {
      await settle()
      const sends = await inner.all('ws://test/ws 1001')
      return sends.sort((a, b) => a.order - b.order).map(({ message, error }) => message.content + (error ? ' failed' : ''))
    },
  }
  return store satisfies OutboxStore
}

test('sends survive a reload in their order, failed ones as failed, and go before new ones', async () => {
  const store = watchedStore()
  const before = new World({ store })
  const socket = await before.connected()
  for (const content of ['a', 'b', 'c']) void before.client.direct(1002).send(content)
  const first = takeSend(socket, 'a')
  socket.refuse(first, 'rejected')
  takeSend(socket, 'b')
  assert.deepEqual(await store.contents(), ['a failed', 'b', 'c'])

  const after = new World({ store })
  void after.client.direct(1002).send('d')
  const again = await after.connected()
  assert.deepEqual(states(after), ['a failed', 'b pending', 'c pending', 'd pending'])
  for (const content of ['b', 'c', 'd']) again.answer(takeSend(again, content), 'sent', sent)
  assert.deepEqual(await store.contents(), ['a failed'])
})

test('a message is sent although it cannot be stored', async () => {
  const store = watchedStore()
  store.broken = true
  const world = new World({ store })
  const socket = await world.connected()
  void world.client.direct(1002).send('a')
  takeSend(socket, 'a')
  await settle()
  assert.deepEqual(world.warnings, ['the outbox cannot be stored'])
})

/** The locks of a browser whose tabs come and go. */
class FakeLocks {
  readonly held = new Map<string, object>()

  /** The locks as one tab sees them, and a function that closes the tab. */
  tab(): { locks: Locks; close: () => void } {
    const own = {}
    const locks: Locks = {
      request: async (name, _options, run) => {
        if (this.held.has(name)) return run(null)
        this.held.set(name, own)
        await run({ name })
        if (this.held.get(name) === own) this.held.delete(name)
      },
    }
    const close = () => {
      for (const [name, by] of this.held) if (by === own) this.held.delete(name)
    }
    return { locks, close }
  }
}

function keeper(kept: Record<string, string> = {}) {
  return { kept, getItem: (key: string) => kept[key] ?? null, setItem: (key: string, value: string) => void (kept[key] = value) }
}

test('a tab keeps its device over a reload, and a duplicated tab gets another', async () => {
  const all = new FakeLocks()
  const session = keeper()
  const first = all.tab()
  const one = new World({ environment: { locks: first.locks, session } })
  const device = (await one.connected(), one.sockets[0]) && session.kept['millrace.device']
  assert.ok(device)

  const copy = keeper({ ...session.kept })
  const duplicate = new World({ environment: { locks: all.tab().locks, session: copy } })
  await duplicate.connected()
  assert.notEqual(copy.kept['millrace.device'], device)

  first.close()
  const reloaded = new World({ environment: { locks: all.tab().locks, session } })
  assert.equal((await reloaded.socket()).accept().body.device, device)
})

test('a tab sends what a closed tab has left, and leaves alone what belongs to an open one', async () => {
  const all = new FakeLocks()
  const store = watchedStore()
  const open = (tab = all.tab()) => {
    const world = new World({ store, environment: { locks: tab.locks, session: keeper() } })
    return { world, close: tab.close }
  }
  const one = open()
  void one.world.client.direct(1002).send('of one')
  await settle()
  const two = open()
  const socket = await two.world.connected()
  assert.deepEqual(socket.frames, [])
  assert.deepEqual(states(two.world), [])

  one.world.client.disconnect()
  one.close()
  const again = await two.world.reconnected()
  await settle()
  again.answer(takeSend(again, 'of one'), 'sent', sent)
  assert.deepEqual(await store.contents(), [])
})
