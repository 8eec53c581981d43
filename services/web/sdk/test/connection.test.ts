import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pushed, settle, World } from './fake.js'

test('connects with token and device, without a cursor at first, and tells its state', async () => {
  const world = new World({ device: 'web-1' })
  const states: string[] = []
  world.client.connection.subscribe(() => states.push(world.state.state))
  const socket = await world.socket()
  assert.deepEqual(socket.protocols, ['millrace.v1.json'])
  assert.equal(world.state.state, 'connecting')
  assert.deepEqual(socket.accept().body, { token: 'token-1', device: 'web-1' })
  assert.equal(world.state.state, 'connected')
  assert.deepEqual(states, ['connected'])
})

test('resumes with the position of the latest push, and with what the server gave it', async () => {
  const world = new World()
  let socket = await world.connected({ cursor: { 0: 10, 1: 7 } })
  socket.push(pushed(12))
  socket.push({ type: 'typing', from: 1002, to: 1001 })
  socket.end()
  assert.equal(world.state.state, 'waiting')
  assert.equal(world.state.reason, 'lost')
  await world.clock.advance(1_000)
  socket = await world.socket(2)
  assert.deepEqual(socket.accept({ cursor: { 0: 12, 1: 7 }, complete: false }).body.cursor, { 0: 12, 1: 7 })
  assert.equal(world.state.complete, false)
  // While the resume is incomplete, pushes have no position.
  const { pos: _, ...live } = pushed(20) as { pos?: string } & ReturnType<typeof pushed>
  socket.push(live as ReturnType<typeof pushed>)
  socket.end()
  await world.clock.advance(1_000)
  socket = await world.socket(3)
  assert.deepEqual(socket.accept({ complete: false }).body.cursor, { 0: 12, 1: 7 })
  socket.push({ type: 'complete', cursor: { 0: 21, 1: 9 } })
  assert.equal(world.state.complete, true)
  socket.end()
  await world.clock.advance(1_000)
  assert.deepEqual((await world.socket(4)).accept().body.cursor, { 0: 21, 1: 9 })
})

test('waits twice as long after each failure, at most half a minute, and a random part of it', async () => {
  const world = new World()
  world.random = 0.5
  const waits: number[] = []
  for (let i = 1; i <= 9; i++) {
    const socket = await world.socket(i)
    socket.end()
    assert.equal(world.state.reason, 'unreachable')
    waits.push(world.wait)
    await world.retried()
  }
  assert.deepEqual(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000])
})

test('begins with the shortest wait again after a connection that has lasted', async () => {
  const world = new World()
  for (let i = 1; i <= 4; i++) {
    ;(await world.socket(i)).end()
    await world.retried()
  }
  const socket = await world.connected()
  await world.clock.advance(6_000)
  socket.end()
  assert.equal(world.wait, 250)
})

const closes: { code: number; reason: string; state: string; wait?: number; newToken?: boolean }[] = [
  { code: 1000, reason: 'lost', state: 'waiting', wait: 250 },
  { code: 1001, reason: 'going_away', state: 'waiting', wait: 2_500 },
  { code: 1006, reason: 'lost', state: 'waiting', wait: 250 },
  { code: 1013, reason: 'try_later', state: 'waiting', wait: 250 },
  { code: 4001, reason: 'unauthenticated', state: 'waiting', wait: 250, newToken: true },
  { code: 4003, reason: 'token_expired', state: 'waiting', wait: 250, newToken: true },
  { code: 4008, reason: 'too_slow', state: 'waiting', wait: 250 },
  { code: 4009, reason: 'replaced', state: 'stopped' },
  { code: 4010, reason: 'disconnected', state: 'stopped' },
  { code: 4029, reason: 'too_many', state: 'waiting', wait: 4_000 },
]
for (const { code, reason, state, wait, newToken } of closes) {
  test(`after ${code} it is ${state} because of ${reason}`, async () => {
    const world = new World()
    const socket = await world.connected()
    socket.push(pushed(12))
    socket.end(code, 'why')
    assert.equal(world.state.state, state)
    assert.equal(world.state.reason, reason)
    assert.equal(world.state.detail, 'why')
    if (wait === undefined) {
      world.wake()
      await world.clock.advance(120_000)
      assert.equal(world.sockets.length, 1, 'it does not reconnect by itself')
      world.client.connect()
    } else {
      assert.equal(world.wait, wait)
      await world.clock.advance(wait + 1)
    }
    const connect = (await world.socket(2)).accept()
    assert.equal(connect.body.token, newToken ? 'token-2' : 'token-1')
    assert.equal(connect.body.cursor[0], 12)
    assert.equal(world.state.state, 'connected')
  })
}

const refusals: { code: string; state: string; reason: string }[] = [
  { code: 'unauthenticated', state: 'waiting', reason: 'unauthenticated' },
  { code: 'rate_limited', state: 'waiting', reason: 'too_many' },
  { code: 'unavailable', state: 'waiting', reason: 'try_later' },
  { code: 'invalid_argument', state: 'stopped', reason: 'refused' },
]
for (const { code, state, reason } of refusals) {
  test(`is ${state} after connect was refused as ${code}`, async () => {
    const world = new World()
    const socket = await world.socket()
    socket.onopen?.(undefined as never)
    socket.refuse(socket.take('connect'), code)
    assert.deepEqual([world.state.state, world.state.reason], [state, reason])
    assert.equal(socket.closed, true)
  })
}

test('stops where the token is another user\'s, and where there is no user any more', async () => {
  const other = new World()
  await other.connected({ user: 1002 })
  assert.deepEqual([other.state.state, other.state.reason], ['stopped', 'refused'])
  const out = new World({ token: () => null })
  await settle()
  assert.deepEqual([out.state.state, out.state.reason], ['stopped', 'signed_out'])
})

test('tries again when the application has no token, or takes too long', async () => {
  let fail = true
  const world = new World({ token: () => (fail ? Promise.reject(new Error('no network')) : 'good') })
  await settle()
  assert.deepEqual([world.state.state, world.state.reason], ['waiting', 'no_token'])
  fail = false
  await world.clock.advance(1_000)
  assert.equal((await world.socket(1)).accept().body.token, 'good')

  const slow = new World({ token: () => new Promise(() => {}) })
  await slow.clock.advance(30_000)
  assert.equal(slow.state.reason, 'no_token')
})

function jwt(claims: object): string {
  return `x.${btoa(JSON.stringify(claims)).replace(/=+$/, '').replace(/\+/g, '-').replace(/\//g, '_')}.x`
}

test('renews the token before it expires, and tries again if that fails', async () => {
  let issued = 0
  const world: World = new World({
    token: () => {
      if (++issued === 3) throw new Error('issuer is down')
      const iat = Math.floor(world.clock.now() / 1000)
      return jwt({ sub: '1001', iat, exp: iat + 600, n: issued, name: 'ÿþ?' .length })
    },
  })
  const socket = await world.connected({ ping_seconds: 0 })
  await world.clock.advance(539_000)
  assert.equal(issued, 1)
  await world.clock.advance(2_000)
  assert.equal(issued, 2)
  socket.answer(socket.take('refresh'), 'ok')
  await world.clock.advance(541_000)
  assert.equal(issued, 3)
  assert.deepEqual(socket.frames, [])
  await world.clock.advance(30_000)
  assert.equal(issued, 4)
  assert.equal(socket.take('refresh').verb, 'refresh')
})

test('does not renew in a loop where its clock is far ahead', async () => {
  let issued = 0
  const world = new World({ token: () => (issued++, jwt({ exp: 1_600_000_000 })) })
  const socket = await world.connected({ ping_seconds: 0 })
  for (let i = 0; i < 10; i++) {
    await world.clock.advance(30_000)
    for (const frame of socket.frames.splice(0)) socket.answer(frame, 'ok')
  }
  assert.ok(issued <= 11, `${issued} tokens in five minutes`)
})

test('pings when the server is silent, and gives the connection up when no answer comes', async () => {
  const world = new World()
  const socket = await world.connected({ ping_seconds: 25 })
  await world.clock.advance(26_000)
  socket.answer(socket.take('ping'), 'pong')
  await world.clock.advance(10_000)
  socket.push(pushed(12))
  await world.clock.advance(14_500)
  assert.deepEqual(socket.frames, [], 'a push is a sign of life')
  await world.clock.advance(25_000)
  socket.take('ping')
  await world.clock.advance(9_000)
  assert.equal(world.state.state, 'connected')
  await world.clock.advance(600)
  assert.deepEqual([world.state.reason, socket.closed], ['silent', true])
})

test('does not wait any longer when the network is back or somebody looks', async () => {
  const world = new World()
  world.offline = true
  ;(await world.socket()).end()
  assert.equal(world.state.reason, 'offline')
  world.wake()
  await world.connected()
  assert.equal(world.sockets.length, 2)
})

test('asks a connection for a sign of life on waking', async () => {
  const world = new World()
  const socket = await world.connected()
  world.wake()
  socket.take('ping')
  await world.clock.advance(10_001)
  assert.equal(world.state.reason, 'silent')
})

test('gives up a socket that does not open, or a server that does not answer connect', async () => {
  const world = new World()
  const socket = await world.socket()
  await world.clock.advance(15_001)
  assert.deepEqual([world.state.reason, socket.closed], ['unreachable', true])
  const second = await world.retried()
  second.onopen?.(undefined as never)
  await world.clock.advance(15_001)
  assert.equal(second.closed, true)
  // What the first one says now concerns nobody.
  socket.onopen?.(undefined as never)
  assert.deepEqual(socket.frames, [])
})

test('leaves nothing running when it is closed', async () => {
  const world = new World()
  const socket = await world.connected()
  const asked = world.client.request('history', { conversation: 'u:1001:1002' })
  world.client.close()
  await assert.rejects(asked, { code: 'closed' })
  assert.deepEqual([world.state.reason, socket.closed, world.clock.waiting], ['closed', true, 0])
})

test('disconnects and connects as the application asks, and goes on where it was', async () => {
  const world = new World()
  const socket = await world.connected()
  socket.push(pushed(15))
  world.client.disconnect()
  await world.clock.advance(60_000)
  assert.equal(world.sockets.length, 1)
  world.client.connect()
  assert.deepEqual((await world.socket(2)).accept().body.cursor, { 0: 15 })
})
