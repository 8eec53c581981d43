import type { Push } from './protocol.js'

const MOST = 1_000

/**
 * The latest pushes about conversations, without gaps. A page of history may be older than what was pushed before it came:
 * storing may lag, and the page may be read just before something happens. What was pushed is applied on top of the page.
 */
export class Recent {
  #pushes: Push[] = []

  add(push: Push): void {
    if (!('conversation' in push)) return
    this.#pushes.push(push)
    if (this.#pushes.length > 2 * MOST) this.#pushes = this.#pushes.slice(-MOST)
  }

  /** Forgets everything, because some pushes were missed for good. */
  clear(): void {
    this.#pushes = []
  }

  of(conversation: string): Push[] {
    return this.#pushes.filter((push) => 'conversation' in push && push.conversation === conversation)
  }
}
