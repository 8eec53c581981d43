import type { ConversationClient } from './conversation.js'
import type { Target } from './protocol.js'

/** How often others are told while the user writes. */
const EVERY = 3_000
/** How long somebody who was heard of counts as writing. */
const LASTS = 5_000

/** Who is writing in a conversation. */
export class Typing {
  users: readonly number[] = []
  readonly #timers = new Map<number, unknown>()
  #toldAt = -Infinity

  constructor(
    private readonly target: Target,
    private readonly client: ConversationClient,
    private readonly changed: () => void,
  ) {}

  /** Tells the others, unless they were told just before. Nobody is told later if there is no connection now. */
  tell(): void {
    const now = this.client.env.clock.now()
    if (now - this.#toldAt < EVERY) return
    this.#toldAt = now
    this.client.signal('typing', this.target)
  }

  /** The user has sent the message: the next key begins another. */
  stopped(): void {
    this.#toldAt = -Infinity
  }

  heard(user: number): void {
    if (user === this.client.user) return
    const { clock } = this.client.env
    clock.clearTimeout(this.#timers.get(user))
    this.#timers.set(
      user,
      clock.setTimeout(() => {
        this.ended(user)
        this.changed()
      }, LASTS),
    )
    this.users = [...this.#timers.keys()]
  }

  ended(user: number): void {
    this.client.env.clock.clearTimeout(this.#timers.get(user))
    if (this.#timers.delete(user)) this.users = [...this.#timers.keys()]
  }
}
