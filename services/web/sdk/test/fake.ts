// A server, a clock and a world that tests hold in their hands.
import { Client, type Options, type Push, type StoredMessage } from '../src/index.js'

/** Lets everything run that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve))
}

/** A clock that stands still until it is advanced. */
export class FakeClock {
  #now = 1_700_000_000_000
  #timers: { at: number; run: () => void }[] = []

  now = () => this.#now

  setTimeout = (run: () => void, ms: number) => {
    const timer = { at: this.#now + ms, run }
    this.#timers.push(timer)
    return timer
  }

  clearTimeout = (timer: unknown) => {
    this.#timers = this.#timers.filter((other) => other !== timer)
  }

  get waiting(): number {
    return this.#timers.length
  }

  async advance(ms: number): Promise<void> {
    const until = this.#now + ms
    await settle()
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0]
      if (!next) break
      this.clearTimeout(next)
      this.#now = Math.max(this.#now, next.at)
      next.run()
      await settle()
    }
    this.#now = until
  }
}

export interface Frame {
  id: number
  verb: string
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into whatever was sent
  body: any
}

/** The server's side of one connection. */
export class FakeSocket {
  onopen: ((event: never) => void) | null = null
  onmessage: ((event: { data: unknown }) => void) | null = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  onerror: ((event: never) => void) | null = null
  closed = false
  /** What the client has sent and the test has not taken yet. */
  readonly frames: Frame[] = []

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {}

  send(text: string): void {
    const { id, ...rest } = JSON.parse(text) as { id: number }
    const [verb, body] = Object.entries(rest)[0] as [string, unknown]
    this.frames.push({ id, verb, body })
  }

  close(): void {
    this.closed = true
  }

  /** Takes the next frame, which must be of the verb. */
  take(verb: string): Frame {
    const frame = this.frames.shift()
    if (frame?.verb !== verb) throw new Error(`want ${verb}, the client sent ${JSON.stringify(frame)}`)
    return frame
  }

  say(frame: object): void {
    this.onmessage?.({ data: JSON.stringify(frame) })
  }

  answer({ id }: Frame, result: string, body: object = {}): void {
    this.say({ id, [result]: body })
  }

  refuse({ id }: Frame, code: string, message = code): void {
    this.say({ id, error: { code, message } })
  }

  push(push: Push): void {
    this.say({ push })
  }

  /** Ends the connection from the server's side. */
  end(code = 1006, reason = ''): void {
    this.onclose?.({ code, reason })
  }

  /** Opens the connection and answers connect. */
  accept(session: object = {}): Frame {
    this.onopen?.(undefined as never)
    const connect = this.take('connect')
    this.answer(connect, 'connected', {
      user: 1001, session: 's', cursor: { 0: 10 }, recovered: true, complete: true, ping_seconds: 25, ...session,
    })
    return connect
  }
}

let drawn = 0

/** A client in a world of its own. */
export class World {
  readonly clock = new FakeClock()
  readonly sockets: FakeSocket[] = []
  readonly warnings: string[] = []
  offline = false
  wake: () => void = () => {}
  random = 0.5
  tokens = 0
  readonly client: Client

  constructor(options: Partial<Options> = {}) {
    const { sockets } = this
    this.client = new Client({
      url: 'ws://test/ws',
      user: 1001,
      token: () => `token-${++this.tokens}`,
      ...options,
      environment: {
        WebSocket: class extends FakeSocket {
          constructor(url: string, protocols: string[]) {
            super(url, protocols)
            sockets.push(this)
          }
        },
        clock: this.clock,
        // Ids are drawn with it too, and must differ in all worlds.
        random: () => this.random + (++drawn % 1000) * 1e-9,
        locks: undefined,
        session: undefined,
        onWake: (listener) => {
          this.wake = listener
          return () => (this.wake = () => {})
        },
        isOffline: () => this.offline,
        warn: (message) => this.warnings.push(message),
        ...options.environment,
      },
    })
  }

  get state() {
    return this.client.connection.getSnapshot()
  }

  /** The latest socket, once the client has opened as many. */
  async socket(nth?: number): Promise<FakeSocket> {
    await settle()
    const socket = this.sockets[(nth ?? this.sockets.length) - 1]
    if (!socket) throw new Error(`the client has opened ${this.sockets.length} sockets`)
    return socket
  }

  /** Connects the client that waits to. */
  async connected(session: object = {}): Promise<FakeSocket> {
    const socket = await this.socket()
    socket.accept(session)
    await settle()
    return socket
  }

  /** How long the client still waits for its next attempt. */
  get wait(): number {
    return Math.round((this.state.retryAt ?? NaN) - this.clock.now())
  }

  /** Waits for the next attempt. */
  async retried(): Promise<FakeSocket> {
    await this.clock.advance(this.wait + 1)
    return this.socket()
  }

  /** Breaks the connection and makes the next one. */
  async reconnected(session: object = {}): Promise<FakeSocket> {
    ;(await this.socket()).end()
    const socket = await this.retried()
    socket.accept(session)
    await settle()
    return socket
  }
}

/** A message from 1002 to 1001, or what else is given. */
export function message(seq: number, other: Partial<StoredMessage> = {}): StoredMessage {
  return {
    seq, message_id: `m${seq}`, client_msg_id: `c${seq}`, from: 1002, to: 1001, content: `text ${seq}`, message_type: 1,
    timestamp: 1_700_000_000, ...other,
  }
}

/** The push of that message. */
export function pushed(seq: number, other: Partial<StoredMessage> = {}, conversation = 'u:1001:1002'): Push {
  const { seq: at, ...rest } = message(seq, other)
  return { type: 'new_message', pos: `0:${seq}`, conversation, seq: at, message: rest }
}
