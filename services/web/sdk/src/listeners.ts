import { report } from './errors.js'
import type { Push, Pushes } from './protocol.js'

/** What a client tells its listeners. */
export interface Events extends Pushes {
  /** Pushes were missed for good. Conversations and the inbox load themselves again; who only listens must read history. */
  missed: object
}

export type Listener<T extends keyof Events> = (event: { type: T } & Events[T]) => void

/** How many message ids are remembered, to tell of each message once. */
const REMEMBERED = 10_000

/** The functions of the application that are called with what comes. */
export class Listeners {
  readonly #listeners = new Map<string, Set<(event: never) => void>>()
  readonly #told = new Set<string>()

  on<T extends keyof Events>(type: T, listener: Listener<T>): () => void {
    const listeners = this.#listeners.get(type) ?? new Set()
    this.#listeners.set(type, listeners.add(listener))
    return () => void listeners.delete(listener)
  }

  tell(event: Push | { type: 'missed' }): void {
    if (event.type === 'new_message' && this.#again(event.message.message_id)) return
    for (const listener of [...(this.#listeners.get(event.type) ?? [])]) {
      try {
        listener(event as never)
      } catch (error) {
        report(error)
      }
    }
  }

  /** Notes the message, and reports whether it was noted before. */
  #again(message_id: string): boolean {
    const again = this.#told.has(message_id)
    this.#told.add(message_id)
    if (this.#told.size > REMEMBERED) this.#told.delete(this.#told.values().next().value as string)
    return again
  }
}
