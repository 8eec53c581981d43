import type { Page, StoredMessage } from './protocol.js'

/** The messages of a conversation that the client has, each once, sorted by seq. */
export class Timeline {
  #messages: StoredMessage[] = []
  readonly #byID = new Map<string, StoredMessage>()
  /** Everything from this seq on is here. Infinity: no history was loaded yet. */
  #floor = Infinity

  get messages(): readonly StoredMessage[] {
    return this.#messages
  }

  get floor(): number {
    return this.#floor
  }

  get newest(): number {
    return this.#messages.at(-1)?.seq ?? 0
  }

  has(message_id: string): boolean {
    return this.#byID.has(message_id)
  }

  /** Puts a message at its place. Of a message that came twice the lower seq counts. */
  place(message: StoredMessage): void {
    const had = this.#byID.get(message.message_id)
    if (had && had.seq <= message.seq) return
    if (had) {
      this.#messages.splice(this.#messages.indexOf(had), 1)
      message = { ...had, seq: message.seq }
    } else if (message.seq < this.#floor && this.#floor < Infinity) {
      return // a page of older ones will have it
    }
    this.#byID.set(message.message_id, message)
    let i = this.#messages.length
    while (i > 0 && (this.#messages[i - 1] as StoredMessage).seq > message.seq) i--
    this.#messages.splice(i, 0, message)
  }

  /** Changes a message that is here. */
  change(message_id: string, change: (message: StoredMessage) => StoredMessage): void {
    const had = this.#byID.get(message_id)
    if (!had) return
    const message = change(had)
    this.#byID.set(message_id, message)
    this.#messages[this.#messages.indexOf(had)] = message
  }

  /** Adds a page that ends where the timeline begins. */
  addOlder({ messages, more }: Pick<Page, 'messages' | 'more'>): void {
    this.#floor = more ? Math.min(this.#floor, messages[0]?.seq ?? this.#floor) : 0
    for (const message of messages) this.place(message)
  }

  /** Replaces everything by what history has now, except what is newer than that. */
  replace(messages: StoredMessage[], more: boolean): void {
    const newest = messages.at(-1)?.seq ?? 0
    const newer = this.#messages.filter(({ seq }) => seq > newest)
    this.#messages = []
    this.#byID.clear()
    this.#floor = Infinity
    this.addOlder({ messages, more })
    for (const message of newer) this.place(message)
  }
}
