import { backoff } from './backoff.js'
import type { Connection } from './connection.js'
import type { Environment } from './environment.js'
import { RequestError } from './errors.js'
import type { Verb, Verbs } from './protocol.js'

/** A request without an answer. */
interface Request {
  readonly verb: Verb
  readonly body: unknown
  readonly done: (error: RequestError | undefined, result: unknown) => void
  /** The connection that it was sent over; 0: none. */
  flying: number
  refused: number
  timer?: unknown
  givenUp?: boolean
}

/** A frame must be smaller. */
const MAX_FRAME = 64 * 1024

/**
 * The requests that wait for their answers, over one connection after the other. Those of a lane (a conversation, mostly) are
 * made one after the other, each once the one before it is answered. So their order is kept even where one has to be repeated
 * because the server was unavailable, or because the connection broke and nobody knows what became of it.
 */
export class Requests {
  readonly #lanes = new Map<string, Request[]>()
  #unnamed = 0

  constructor(
    private readonly socket: Connection,
    private readonly env: Environment,
  ) {}

  /** Makes a request and calls done once. The returned function gives the request up, if it is not answered by then. */
  add<V extends Verb>(
    verb: V,
    body: Verbs[V][0],
    done: (error: RequestError | undefined, result: Verbs[V][1]) => void,
    lane = `#${++this.#unnamed}`,
  ): () => void {
    const request: Request = { verb, body, done: done as Request['done'], flying: 0, refused: 0 }
    const text = JSON.stringify(body)
    if (text.length * 3 > MAX_FRAME && new TextEncoder().encode(text).length > MAX_FRAME - 100) {
      queueMicrotask(() => request.done(new RequestError('too_large', 'more than a frame holds'), undefined))
      return () => {}
    }
    const requests = this.#lanes.get(lane)
    if (requests) requests.push(request)
    else this.#lanes.set(lane, [request])
    this.#next(lane)
    return () => this.#giveUp(lane, request)
  }

  /** Makes a request and returns its result, or throws a RequestError. */
  make<V extends Verb>(verb: V, body: Verbs[V][0], lane?: string, signal?: AbortSignal): Promise<Verbs[V][1]> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const done = (error: RequestError | undefined, result: Verbs[V][1]) => {
        signal?.removeEventListener('abort', aborted)
        if (error) reject(error)
        else resolve(result)
      }
      const giveUp = this.add(verb, body, done, lane)
      const aborted = () => {
        giveUp()
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', aborted)
    })
  }

  /** Sends what waits, over a new connection. */
  connected(): void {
    for (const lane of [...this.#lanes.keys()]) this.#next(lane)
  }

  /** Ends all requests. */
  close(): void {
    const lanes = [...this.#lanes.values()]
    this.#lanes.clear()
    for (const request of lanes.flat()) {
      this.env.clock.clearTimeout(request.timer)
      if (!request.givenUp) request.done(new RequestError('closed', 'the client was closed'), undefined)
    }
  }

  /** Sends the first request of the lane, unless it is under way or has to wait. */
  #next(lane: string): void {
    const request = this.#lanes.get(lane)?.[0]
    const { session } = this.socket
    if (!request || !session || request.flying === session || request.timer) return
    if (request.givenUp) return this.#leave(lane)
    request.flying = session
    this.socket.call(request.verb, request.body, (error, result) => {
      if (error && (error.code === 'unavailable' || error.code === 'rate_limited') && !request.givenUp) {
        request.flying = 0
        const wait = backoff(request.refused++, this.env.random)
        request.timer = this.env.clock.setTimeout(() => {
          delete request.timer
          this.#next(lane)
        }, wait)
        return
      }
      const { givenUp } = request
      this.#leave(lane)
      if (!givenUp) request.done(error, result)
    })
  }

  /** Takes the first request out of the lane. */
  #leave(lane: string): void {
    const requests = this.#lanes.get(lane)
    requests?.shift()
    if (requests?.length) this.#next(lane)
    else this.#lanes.delete(lane)
  }

  #giveUp(lane: string, request: Request): void {
    request.givenUp = true
    const requests = this.#lanes.get(lane)
    const i = requests?.indexOf(request) ?? -1
    if (i < 0 || (request.flying && request.flying === this.socket.session)) return // the lane waits for its answer
    this.env.clock.clearTimeout(request.timer)
    requests?.splice(i, 1)
    if (requests?.length === 0) this.#lanes.delete(lane)
    else this.#next(lane)
  }
}
