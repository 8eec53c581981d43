import { type Environment, newID } from './environment.js'
import type { RequestError } from './errors.js'
import { directName, groupName, targetOf } from './names.js'
import { Observable } from './observable.js'
import type { Outbox } from './outbox.js'
import type { NewMessage, Push, Reader, Sent, Settings, StoredMessage, Target, Verb, Verbs } from './protocol.js'
import type { Recent } from './recent.js'
import type { Requests } from './requests.js'
import type { StoredSend } from './store.js'
import { Timeline } from './timeline.js'
import { Typing } from './typing.js'

/** A message as it is shown. */
export interface Message extends Partial<NewMessage> {
  /** Undefined until the server has accepted the message. */
  readonly message_id?: string
  /** The id that its sender gave it; undefined if it was recalled before it was loaded. */
  readonly client_msg_id?: string
  /** Its place. Undefined until the server has told it: such a message stands behind all others. */
  readonly seq?: number
  readonly from?: number
  /** Unix seconds. */
  readonly timestamp?: number
  /** Unix seconds, by this machine's clock if the edit was seen as it came. */
  readonly edited_at?: number
  readonly recalled?: boolean
  /** Why a moderator has taken the user's own message away. */
  readonly moderated?: string
  /** pending: not yet known to be accepted. failed: refused, see error; retry or discard it. */
  readonly state: 'pending' | 'sent' | 'failed'
  readonly error?: StoredSend['error']
}

export interface ConversationSnapshot {
  /** By seq, then what is not yet accepted, in the order of sending. A message without changes is the same object again. */
  readonly messages: readonly Message[]
  /** The newest messages are here. */
  readonly loaded: boolean
  /** History is being loaded. */
  readonly loading: boolean
  /** There are older messages: see loadOlder. */
  readonly more: boolean
  /** Why history could not be loaded. */
  readonly error?: RequestError
  /** Up to which seq users have read, by user, as far as the server tells. */
  readonly reads: Readonly<Record<number, number>>
  /** Who is writing. */
  readonly typing: readonly number[]
}

/** What a conversation needs of its client. */
export interface ConversationClient {
  readonly user: number
  readonly env: Environment
  readonly requests: Requests
  readonly outbox: Outbox
  readonly recent: Recent
  /** Makes a request that is not worth waiting for a connection. */
  signal<V extends Verb>(verb: V, body: Verbs[V][0]): void
}

const PAGE = 50
const LARGEST_PAGE = 200
/** How many messages a reload goes back at most to where the application has scrolled. */
const RELOAD = 1_000

/**
 * A conversation as an application shows it. It loads the newest messages when the first listener subscribes, and from then on
 * is kept up to date, over lost connections too.
 */
export class Conversation extends Observable<ConversationSnapshot> {
  readonly target: Target
  readonly #timeline = new Timeline()
  /** Own messages that were accepted and whose push has not come yet, by client_msg_id. */
  readonly #unplaced = new Map<string, Message>()
  /** The client_msg_ids of the user's own messages in the timeline: their push may come before the answer to the send. */
  readonly #own = new Set<string>()
  readonly #typing: Typing
  #shown = new WeakMap<object, Message>()
  #reads: Record<number, number> = {}
  #read = { asked: 0, under: false }
  #load: Promise<void> | undefined
  #older: Promise<void> | undefined
  /** Counts loads: what an earlier one brings late is dropped. */
  #loads = 0
  #loaded = false
  #error: RequestError | undefined

  constructor(
    readonly name: string,
    private readonly client: ConversationClient,
  ) {
    super()
    this.target = targetOf(name, client.user)
    this.#typing = new Typing(this.target, client, () => this.changed())
  }

  /** Sends a text or any message. The promise is kept when the server accepts it; until then the snapshot has it as pending. */
  send(message: string | (NewMessage & { client_msg_id?: string })): Promise<Sent> {
    const post = typeof message === 'string' ? { content: message } : message
    this.#typing.stopped()
    return this.client.outbox.post(this.name, this.target, post)
  }

  /** Sends a refused message once more, behind those that wait. */
  retry(client_msg_id: string): void {
    this.client.outbox.retry(client_msg_id)
  }

  /** Forgets a refused or pending message. One that is under way may be accepted all the same. */
  discard(client_msg_id: string): void {
    this.client.outbox.discard(client_msg_id)
  }

  /** Replaces the content of the user's own message, and its extra if there is one. */
  async edit(message_id: string, content: string, extra?: Record<string, unknown>): Promise<void> {
    const edit = { conversation: this.name, message_id, content, client_msg_id: newID(this.client.env) }
    await this.client.requests.make('edit', extra ? { ...edit, extra } : edit, this.name)
  }

  async recall(message_id: string): Promise<void> {
    await this.client.requests.make('recall', { conversation: this.name, message_id }, this.name)
  }

  /** Marks the conversation as read up to a message, or up to the newest one. Call it as often as you like. */
  read(seq = this.#timeline.newest): void {
    const read = this.#read
    if (seq <= Math.max(read.asked, this.#reads[this.client.user] ?? 0)) return
    read.asked = seq
    if (!read.under) this.#sendRead()
  }

  /** Tells the others that the user is writing. Call it with every key. */
  typing(): void {
    this.#typing.tell()
  }

  async settings(settings: Settings): Promise<void> {
    await this.client.requests.make('settings', { conversation: this.name, ...settings }, this.name)
  }

  /** Returns who has read at least up to the message, at most 1,000 users. */
  async readers(seq: number): Promise<Reader[]> {
    return (await this.client.requests.make('readers', { conversation: this.name, seq })).readers
  }

  /** Loads the newest messages, unless they are here. */
  load(): Promise<void> {
    return (this.#load ??= this.#reload(Infinity))
  }

  /** Loads a page of older messages, if there are any. */
  async loadOlder(): Promise<void> {
    await this.load()
    if (this.#timeline.floor === 0 || !this.#loaded) return
    this.#older ??= this.#loadOlder().finally(() => {
      this.#older = undefined
      this.changed()
    })
    this.changed()
    return this.#older
  }

  /** @internal Handles a push about this conversation. */
  push(push: Push): void {
    if (push.type === 'message_read') {
      this.#reads = { ...this.#reads, [push.user]: Math.max(push.seq, this.#reads[push.user] ?? 0) }
    } else if (push.type === 'typing') {
      this.#typing.heard(push.from)
    } else if (push.type === 'member_joined' && push.user === this.client.user) {
      if (this.#load) this.reload() // a new stay begins
    } else {
      this.#apply(push)
    }
    this.changed()
  }

  /** @internal Loads again what is shown, because pushes were missed. */
  reload(): void {
    if (this.#load) this.#load = this.#reload(this.#timeline.floor)
  }

  /** @internal There is another connection: marks that were pushed meanwhile are not pushed again. */
  resumed(): void {
    if (this.#loaded) void this.#loadReads()
  }

  /** @internal The outbox has changed. */
  outboxChanged(): void {
    this.changed()
  }

  /** @internal A message of this conversation was accepted. */
  sent({ client_msg_id, message, timestamp }: StoredSend, { message_id }: Sent): void {
    if (this.#timeline.has(message_id)) return // the push was faster
    const { user } = this.client
    this.#unplaced.set(client_msg_id, { ...message, client_msg_id, message_id, from: user, timestamp, state: 'sent' })
  }

  protected override watched(by: boolean): void {
    if (by) void this.load()
  }

  protected take(): ConversationSnapshot {
    const waiting = this.client.outbox.of(this.name).filter(({ client_msg_id }) => !this.#own.has(client_msg_id))
    const pending = waiting.map((send) => this.#show(send, pendingMessage(send, this.client.user)))
    const placed = this.#timeline.messages.map((stored) => this.#show(stored, { ...stored, state: 'sent' }))
    return {
      messages: [...placed, ...this.#unplaced.values(), ...pending],
      loaded: this.#loaded,
      loading: (this.#load !== undefined && !this.#loaded && !this.#error) || this.#older !== undefined,
      more: this.#timeline.floor > 0,
      ...(this.#error && { error: this.#error }),
      reads: this.#reads,
      typing: this.#typing.users,
    }
  }

  /** Returns the message that was shown for the object before, or the one given. */
  #show(of: object, message: Message): Message {
    const shown = this.#shown.get(of) ?? message
    this.#shown.set(of, shown)
    return shown
  }

  #apply(push: Push): void {
    const timeline = this.#timeline
    switch (push.type) {
      case 'new_message':
        this.#place({ ...push.message, seq: push.seq })
        if (push.message.from) this.#typing.ended(push.message.from)
        return
      case 'message_edited':
        return timeline.change(push.message_id, (message) => ({
          ...message,
          content: push.content,
          ...(push.extra && { extra: push.extra }),
          edited_at: Math.floor(this.client.env.clock.now() / 1000),
        }))
      case 'message_recalled':
        return timeline.change(push.message_id, ({ content: _c, extra: _e, mentions: _m, reply_to: _r, ...rest }) => ({
          ...rest,
          recalled: true,
        }))
      case 'message_moderated':
        return timeline.change(push.message_id, (message) => ({ ...message, moderated: push.reason }))
    }
  }

  #place(message: StoredMessage): void {
    this.#timeline.place(message)
    if (message.from === this.client.user && message.client_msg_id) this.#own.add(message.client_msg_id)
    for (const [id, own] of this.#unplaced) {
      if (own.message_id === message.message_id) this.#unplaced.delete(id)
    }
  }

  /** Replaces what is shown by what history has now, going back to a seq, and applies on top what was pushed meanwhile. */
  async #reload(backTo: number): Promise<void> {
    const load = ++this.#loads
    this.changed()
    try {
      let { messages, more } = await this.#page({})
      while (more && messages.length < RELOAD && messages[0] && messages[0].seq > backTo) {
        const older = await this.#page({ before_seq: messages[0].seq, limit: LARGEST_PAGE })
        if (load !== this.#loads) return
        messages = [...older.messages, ...messages]
        more = older.more
      }
      if (load !== this.#loads) return
      this.#timeline.replace(messages, more)
      this.#replay(messages)
      this.#loaded = true
      this.#error = undefined
      void this.#loadReads()
    } catch (error) {
      if (load !== this.#loads) return
      this.#error = error as RequestError
      this.#load = undefined // so that load tries again
    }
    this.changed()
  }

  async #loadOlder(): Promise<void> {
    const load = this.#loads
    const page = await this.#page({ before_seq: this.#timeline.floor })
    if (load !== this.#loads) return
    this.#timeline.addOlder(page)
    this.#replay(page.messages)
  }

  #page(which: { before_seq?: number; limit?: number }) {
    return this.client.requests.make('history', { conversation: this.name, limit: PAGE, ...which })
  }

  #replay(loaded: readonly StoredMessage[]): void {
    for (const message of loaded) this.#place(message)
    for (const push of this.client.recent.of(this.name)) this.#apply(push)
  }

  /** Asks how far the other one of a direct conversation has read. In a group that may be thousands: see readers. */
  async #loadReads(): Promise<void> {
    if ('group_id' in this.target) return
    const readers = await this.readers(1).catch(() => []) // marks are a comfort
    for (const { user, seq } of readers) this.#reads = { ...this.#reads, [user]: Math.max(seq, this.#reads[user] ?? 0) }
    this.changed()
  }

  #sendRead(): void {
    const read = this.#read
    const seq = read.asked
    read.under = true
    this.client.requests.add('read', { conversation: this.name, seq }, (error) => {
      read.under = false
      if (!error && read.asked > seq) this.#sendRead()
    })
  }
}

function pendingMessage({ message, client_msg_id, timestamp, error }: StoredSend, from: number): Message {
  return { ...message, client_msg_id, from, timestamp, state: error ? 'failed' : 'pending', ...(error && { error }) }
}

/** Returns the conversation that the push is about, if it is about one. */
export function conversationOf(push: Push, user: number): string | undefined {
  if ('conversation' in push) return push.conversation
  if ('group_id' in push) return groupName(push.group_id)
  if (push.type !== 'typing') return undefined
  return directName(user, push.from === user && 'to' in push ? push.to : push.from)
}
