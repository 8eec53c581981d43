import { type Environment, newID } from './environment.js'
import { RequestError } from './errors.js'
import type { NewMessage, Sent, Target } from './protocol.js'
import type { Requests } from './requests.js'
import type { OutboxStore, StoredSend } from './store.js'
import type { Tab } from './tab.js'

/** A send in the outbox. */
interface Entry {
  send: StoredSend
  resolve: (sent: Sent) => void
  reject: (error: RequestError) => void
  giveUp?: () => void
}

/** What the outbox tells of its sends. */
export interface OutboxEvents {
  /** The sends of the conversation have changed. */
  changed(conversation: string): void
  /** The send was accepted, and is in the outbox no more. */
  sent(send: StoredSend, sent: Sent): void
}

/**
 * The messages that are not known to be accepted. Those of one conversation are sent one after the other, in the order in which
 * they were posted, and repeated with the same client_msg_id until the server accepts or refuses them. A refused one stays until
 * it is retried or discarded. The store keeps them over a reload.
 */
export class Outbox {
  readonly #entries = new Map<string, Entry>()
  /** Calls to the store are made one after the other. */
  #storing: Promise<void> = Promise.resolve()
  #loaded = false
  #order = 0

  constructor(
    private readonly account: string,
    private readonly tab: Tab,
    private readonly store: OutboxStore,
    private readonly requests: Requests,
    private readonly env: Environment,
    private readonly events: OutboxEvents,
  ) {}

  /** Posts a message, and returns a promise of its acceptance. */
  post(conversation: string, target: Target, message: NewMessage & { client_msg_id?: string }): Promise<Sent> {
    const { client_msg_id = newID(this.env), ...rest } = message
    const sent = this.#add({
      client_msg_id,
      account: this.account,
      owner: '', // until the name is known
      order: this.#nextOrder(),
      conversation,
      message: { ...target, ...rest },
      timestamp: Math.floor(this.env.clock.now() / 1000),
    })
    if (this.#loaded) void this.#keep(client_msg_id)
    this.#send(client_msg_id)
    this.events.changed(conversation)
    return sent
  }

  /** Returns the sends of a conversation in order. */
  of(conversation: string): StoredSend[] {
    return [...this.#entries.values()].map(({ send }) => send).filter((send) => send.conversation === conversation)
  }

  /** Sends a refused message once more, behind those that wait. */
  retry(client_msg_id: string): void {
    const entry = this.#entries.get(client_msg_id)
    if (!entry?.send.error) return
    const { error: _, ...send } = entry.send
    this.#entries.delete(client_msg_id)
    void this.#add({ ...send, order: this.#nextOrder() })
    void this.#keep(client_msg_id)
    this.#send(client_msg_id)
    this.events.changed(send.conversation)
  }

  /** Forgets a message. One that is under way may be accepted all the same. */
  discard(client_msg_id: string): void {
    const entry = this.#entries.get(client_msg_id)
    if (!entry) return
    entry.giveUp?.()
    this.#forget(entry)
    entry.reject(new RequestError('closed', 'discarded'))
    this.events.changed(entry.send.conversation)
  }

  /** Takes over what the store has of this tab, and of tabs that are gone, to send it before anything new. */
  async load(): Promise<void> {
    const tab = await this.tab.name()
    await this.#adopt(tab)
    this.#loaded = true
    const entries = [...this.#entries.values()]
    const stored = entries.filter(({ send }) => send.owner).sort((a, b) => a.send.order - b.send.order)
    this.#order = stored.at(-1)?.send.order ?? 0
    this.#entries.clear()
    for (const entry of [...stored, ...entries.filter(({ send }) => !send.owner)]) {
      const { client_msg_id, owner, error, conversation } = entry.send
      this.#entries.set(client_msg_id, entry)
      if (!owner) {
        entry.send = { ...entry.send, order: this.#nextOrder() }
        void this.#keep(client_msg_id)
      }
      if (!error) this.#send(client_msg_id)
      this.events.changed(conversation)
    }
  }

  /** Takes over the sends of tabs that have gone since. */
  async adopt(): Promise<void> {
    if (!this.#loaded) return
    for (const id of await this.#adopt(await this.tab.name())) {
      if (!this.#entries.get(id)?.send.error) this.#send(id)
    }
  }

  async #adopt(tab: string): Promise<string[]> {
    const adopted: string[] = []
    const take = async (owner: string) => {
      for (const send of await this.store.all(this.account)) {
        if (send.owner !== owner || this.#entries.has(send.client_msg_id)) continue
        adopted.push(send.client_msg_id)
        void this.#add({ ...send, owner: tab })
        if (owner !== tab) await this.store.put({ ...send, owner: tab })
        this.events.changed(send.conversation)
      }
    }
    try {
      const owners = new Set((await this.store.all(this.account)).map(({ owner }) => owner))
      if (!this.#loaded) await take(tab)
      owners.delete(tab)
      for (const owner of owners) await this.tab.whileGone(owner, () => take(owner))
    } catch (error) {
      this.env.warn('the outbox cannot be read', error)
    }
    return adopted
  }

  #add(send: StoredSend): Promise<Sent> {
    const sent = new Promise<Sent>((resolve, reject) => {
      this.#entries.set(send.client_msg_id, { send, resolve, reject })
    })
    sent.catch(() => {}) // who does not wait for it sees the state of the message
    return sent
  }

  #send(client_msg_id: string): void {
    const entry = this.#entries.get(client_msg_id)
    if (!entry || !this.#loaded) return
    const { send } = entry
    entry.giveUp = this.requests.add(
      'send',
      { ...send.message, client_msg_id },
      (error, sent) => {
        if (error?.code === 'closed') return entry.reject(error)
        if (error) {
          entry.send = { ...send, error: { code: error.code, message: error.message } }
          void this.#keep(client_msg_id)
          entry.reject(error)
        } else {
          this.#forget(entry)
          this.events.sent(send, sent)
          entry.resolve(sent)
        }
        this.events.changed(send.conversation)
      },
      send.conversation,
    )
  }

  /** Returns a number above all before, also above those of an earlier page if the clock is right. */
  #nextOrder(): number {
    return (this.#order = Math.max(this.env.clock.now(), this.#order + 1))
  }

  #forget({ send }: Entry): void {
    this.#entries.delete(send.client_msg_id)
    void this.#stored(() => this.store.remove(send))
  }

  async #keep(client_msg_id: string): Promise<void> {
    const owner = await this.tab.name()
    return this.#stored(async () => {
      const entry = this.#entries.get(client_msg_id)
      if (!entry) return
      entry.send = { ...entry.send, owner }
      await this.store.put(entry.send)
    })
  }

  /** Calls the store after all calls before. A message is sent even where the store fails. */
  #stored(call: () => Promise<void>): Promise<void> {
    this.#storing = this.#storing.then(call).catch((error: unknown) => this.env.warn('the outbox cannot be stored', error))
    return this.#storing
  }
}
