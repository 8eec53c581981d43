import { backoff } from './backoff.js'
import { Position } from './cursor.js'
import type { Environment, Socket } from './environment.js'
import { RequestError } from './errors.js'
import { Observable } from './observable.js'
import type { Connected, ErrorCode, Push } from './protocol.js'
import type { Tokens } from './tokens.js'

/** idle: not asked to connect yet. waiting: until the next attempt. stopped: for good, unless the application connects again. */
export type ConnectionState = 'idle' | 'connecting' | 'connected' | 'waiting' | 'stopped'

/** Why the connection ended, or could not be made. */
export type Reason =
  /** The browser says that there is no network. */
  | 'offline'
  /** No connection could be made. */
  | 'unreachable'
  /** The connection broke. */
  | 'lost'
  /** The server did not answer a ping. */
  | 'silent'
  /** The application did not return a token. */
  | 'no_token'
  /** The server refused the token; another one is asked for. */
  | 'unauthenticated'
  | 'token_expired'
  | 'going_away'
  | 'try_later'
  | 'too_slow'
  | 'too_many'
  /** Stops: another connection of this device has taken its place. */
  | 'replaced'
  /** Stops: the operator has disconnected the user. */
  | 'disconnected'
  /** Stops: the server refuses what the client asks for, or the token is another user's. */
  | 'refused'
  /** Stops: the application returned null for a token. */
  | 'signed_out'
  /** Stops: the application asked for it. */
  | 'closed'

export interface ConnectionSnapshot {
  readonly state: ConnectionState
  readonly reason?: Reason
  /** What the server or the browser said about the reason, for people who look into it. */
  readonly detail?: string
  /** When the next attempt begins, in milliseconds since 1970, while the state is waiting. */
  readonly retryAt?: number
  /** False while the server knows of missed messages that it cannot send yet. They follow by themselves. */
  readonly complete: boolean
}

/** What a connection tells the rest of the client, always in the order of the server's frames. */
export interface ConnectionEvents {
  connected(session: Connected): void
  push(push: Push): void
}

/** Gets the answer to a request, unless the connection is lost before. */
export type Answered = (error: RequestError | undefined, result: unknown) => void

/** What the close codes of the protocol mean. */
const CLOSES: Partial<Record<number, Reason>> = {
  1001: 'going_away',
  1013: 'try_later',
  4001: 'unauthenticated',
  4003: 'token_expired',
  4008: 'too_slow',
  4009: 'replaced',
  4010: 'disconnected',
  4029: 'too_many',
}
/** The close codes that mean what the refusal of connect means; after any other refusal trying again does not help. */
const REFUSALS: Partial<Record<ErrorCode, number>> = {
  unauthenticated: 4001,
  rate_limited: 4029,
  unavailable: 1013,
  internal: 1013,
}

const SUBPROTOCOL = 'millrace.v1.json'
/** How long the socket may take to open and the server to answer connect. */
const CONNECT_PATIENCE = 15_000
/** How long the server may take to answer a ping. */
const PING_PATIENCE = 10_000
/** How long a connection must last for the next attempt to begin with the shortest wait again. */
const SETTLED = 5_000
/** The longest random wait after a server has said that it is going away. */
const GOING_AWAY = 5_000
/** As if so many attempts had failed: the server has asked for fewer. */
const TOO_MANY = 4

const TIMERS = ['deadline', 'watch', 'retry', 'renew'] as const
type TimerName = (typeof TIMERS)[number]

/** The connection to the server: one socket after the other. */
export class Connection extends Observable<ConnectionSnapshot> {
  readonly #position = new Position()
  #state: ConnectionSnapshot = { state: 'idle', complete: true }
  #socket: Socket | undefined
  /** Counts attempts, so that what comes late for an earlier one is told from what is for this one. */
  #attempt = 0
  #failed = 0
  #connectedAt: number | undefined
  #calls = new Map<number, Answered>()
  #lastID = 0
  #heardAt = 0
  #pingEvery = 0
  #timers: { [name in TimerName]?: unknown } = {}
  #unwake: (() => void) | undefined

  constructor(
    private readonly url: string,
    private readonly user: number,
    private readonly device: () => Promise<string>,
    private readonly tokens: Tokens,
    private readonly env: Environment,
    private readonly events: ConnectionEvents,
  ) {
    super()
  }

  protected take(): ConnectionSnapshot {
    return this.#state
  }

  /** The number of the present connection; 0: there is none. */
  get session(): number {
    return this.#state.state === 'connected' ? this.#attempt : 0
  }

  /** Connects, unless it is connected or about to be. */
  connect(): void {
    const { state } = this.#state
    if (state === 'connecting' || state === 'connected') return
    this.#unwake ??= this.env.onWake(() => this.#wake())
    void this.#open()
  }

  /** Ends the connection until connect is called. */
  disconnect(): void {
    this.#stop('closed')
  }

  /** Sends a request over the present connection. */
  call(verb: string, body: unknown, answered: Answered): void {
    const id = ++this.#lastID
    this.#calls.set(id, answered)
    this.#socket?.send(JSON.stringify({ id, [verb]: body }))
  }

  async #open(): Promise<void> {
    const attempt = ++this.#attempt
    this.#clear('retry')
    this.#become({ state: 'connecting', complete: true })
    let token: string | null
    let device: string
    try {
      ;[token, device] = await Promise.all([this.tokens.get(), this.device()])
    } catch (error) {
      if (attempt === this.#attempt) this.#retry('no_token', String(error))
      return
    }
    if (attempt !== this.#attempt) return
    if (token === null) return this.#stop('signed_out')
    try {
      this.#use(new this.env.WebSocket(this.url, [SUBPROTOCOL]) as Socket, token, device)
    } catch (error) {
      this.#stop('refused', String(error)) // the URL is wrong, or there is no WebSocket
    }
  }

  #use(socket: Socket, token: string, device: string): void {
    this.#socket = socket
    const mine = () => socket === this.#socket
    socket.onopen = () => {
      if (!mine()) return
      const { cursor } = this.#position
      this.call('connect', { token, device, cursor }, (error, result) =>
        error ? this.#refused(error) : this.#established(result as Connected),
      )
    }
    socket.onmessage = (event) => mine() && this.#receive(String(event.data))
    socket.onclose = (event) => mine() && this.#closed(event.code, event.reason)
    socket.onerror = () => mine() && this.#closed(1006, '') // Node may not tell of the close
    this.#set('deadline', CONNECT_PATIENCE, () => this.#closed(1006, 'the server did not answer'))
  }

  #receive(text: string): void {
    this.#heardAt = this.env.clock.now()
    if (this.session) this.#clear('deadline')
    const { id, push, error, ...results } = JSON.parse(text) as {
      id?: number
      push?: Push
      error?: { code: RequestError['code']; message: string }
    }
    if (push) {
      this.events.push(push)
      this.#position.follow(push)
      if (push.type === 'complete') this.#become({ state: 'connected', complete: true })
      return
    }
    const answered = this.#calls.get(id ?? 0)
    this.#calls.delete(id ?? 0)
    answered?.(error && new RequestError(error.code, error.message), Object.values(results)[0])
  }

  #established(session: Connected): void {
    if (session.user !== this.user) return this.#stop('refused', `the token is user ${session.user}'s`)
    this.#clear('deadline')
    this.#connectedAt = this.env.clock.now()
    this.#position.cursor = session.cursor
    this.#pingEvery = session.ping_seconds * 1000
    this.#watch()
    this.#renewLater(this.tokens.renewIn())
    this.#become({ state: 'connected', complete: session.complete })
    if (this.session) this.events.connected(session) // a listener may have disconnected
  }

  /** Handles the refusal of connect. */
  #refused({ code, message }: RequestError): void {
    const close = REFUSALS[code]
    if (close) this.#closed(close, message)
    else this.#stop('refused', message)
  }

  /** Handles the end of the socket, which the server, the network or the client itself has made. */
  #closed(code: number, detail: string, why?: Reason): void {
    const was = this.#connectedAt
    if (was !== undefined && this.env.clock.now() - was >= SETTLED) this.#failed = 0
    const broken = why ?? (was === undefined ? 'unreachable' : 'lost')
    const reason = CLOSES[code] ?? (this.env.isOffline() ? 'offline' : broken)
    if (reason === 'replaced' || reason === 'disconnected') return this.#stop(reason, detail)
    if (reason === 'unauthenticated' || reason === 'token_expired') this.tokens.forget()
    if (reason === 'too_many') this.#failed = Math.max(this.#failed, TOO_MANY)
    this.#retry(reason, detail, reason === 'going_away' && !this.#failed ? this.env.random() * GOING_AWAY : undefined)
  }

  #retry(reason: Reason, detail: string, wait = backoff(this.#failed, this.env.random)): void {
    this.#failed++
    this.#end()
    this.#set('retry', wait, () => void this.#open())
    this.#become({ state: 'waiting', reason, detail, retryAt: this.env.clock.now() + wait, complete: true })
  }

  #stop(reason: Reason, detail = ''): void {
    this.#end()
    this.#failed = 0
    this.#unwake?.()
    this.#unwake = undefined
    this.#become({ state: 'stopped', reason, detail, complete: true })
  }

  /** Forgets the socket and everything that belongs to it. */
  #end(): void {
    this.#attempt++
    const socket = this.#socket
    this.#socket = undefined
    this.#connectedAt = undefined
    this.#calls.clear()
    for (const name of TIMERS) this.#clear(name)
    socket?.close()
  }

  /** The network is back, or somebody looks: a connection that seems to be there may be gone. */
  #wake(): void {
    if (this.#state.state === 'waiting') void this.#open()
    else if (this.session) this.#ping()
  }

  /** A browser hides the server's pings, so the client pings too when it has heard nothing for as long. */
  #watch(): void {
    if (!this.#pingEvery) return
    this.#set('watch', this.#pingEvery, () => {
      if (this.env.clock.now() - this.#heardAt >= this.#pingEvery) this.#ping()
      this.#watch()
    })
  }

  #ping(): void {
    this.call('ping', {}, () => {})
    if (!this.#timers.deadline) this.#set('deadline', PING_PATIENCE, () => this.#closed(1006, '', 'silent'))
  }

  #renewLater(wait: number | undefined): void {
    if (wait !== undefined) this.#set('renew', wait, () => void this.#renew(this.#attempt))
  }

  /** Passes a new token to the server. If that fails it is tried again, and at last the server closes with 4003. */
  async #renew(attempt: number): Promise<void> {
    const token = await this.tokens.renew().catch(() => undefined)
    if (attempt !== this.#attempt) return
    if (token === null) return this.#stop('signed_out')
    const again = () => this.#renewLater(backoff(TOO_MANY, this.env.random) + SETTLED)
    if (token === undefined) return again()
    this.call('refresh', { token }, (error) => (error ? again() : this.#renewLater(this.tokens.renewIn())))
  }

  #set(name: TimerName, ms: number, run: () => void): void {
    this.#clear(name)
    this.#timers[name] = this.env.clock.setTimeout(() => {
      delete this.#timers[name]
      run()
    }, ms)
  }

  #clear(name: TimerName): void {
    this.env.clock.clearTimeout(this.#timers[name])
    delete this.#timers[name]
  }

  #become(state: ConnectionSnapshot): void {
    this.#state = state
    this.changed()
  }
}
