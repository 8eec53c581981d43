import { Observable } from './observable.js'
import type { Head, Push, StoredMessage } from './protocol.js'
import type { Recent } from './recent.js'
import type { Requests } from './requests.js'

export interface InboxSnapshot {
  /** The latest first. */
  readonly conversations: readonly Head[]
  readonly loaded: boolean
  /** There are further ones: see loadMore. */
  readonly more: boolean
}

const PAGE = 50

/**
 * The list of the user's conversations. It is loaded when the first listener subscribes. What a push does not tell, such as how
 * many messages are unread behind a mark in their midst, is read again from the server.
 */
export class Inbox extends Observable<InboxSnapshot> {
  #heads: readonly Head[] = []
  #next: string | undefined
  #load: Promise<void> | undefined
  #loaded = false
  /** The first page is being read. */
  #reading = false
  /** It has to be read once more. */
  #stale = false
  #more: Promise<void> | undefined

  constructor(
    private readonly user: number,
    private readonly requests: Requests,
    private readonly recent: Recent,
  ) {
    super()
  }

  /** Loads the latest conversations, unless they are here. */
  load(): Promise<void> {
    return (this.#load ??= this.#first())
  }

  /** Loads the next page of the list, if there is one. */
  async loadMore(): Promise<void> {
    await this.load()
    if (this.#next === undefined) return
    this.#more ??= this.#page(this.#next).finally(() => (this.#more = undefined))
    return this.#more
  }

  /** @internal Reads the list again. */
  reload(): void {
    if (!this.#load) return
    if (this.#reading) this.#stale = true
    else this.#load = this.#first()
  }

  /** @internal Handles a push about the conversation. */
  push(push: Push, conversation: string): void {
    if (!this.#load) return
    switch (push.type) {
      case 'group_created':
      case 'group_dissolved':
        return this.reload()
      case 'member_joined':
      case 'member_left':
        return push.user === this.user ? this.reload() : undefined
    }
    if (!this.#apply(push, conversation)) this.reload()
  }

  protected take(): InboxSnapshot {
    return { conversations: this.#heads, loaded: this.#loaded, more: this.#next !== undefined }
  }

  protected override watched(by: boolean): void {
    if (by) this.load().catch(() => {}) // the next listener, or the next connection, tries again
  }

  /** Applies a push to the list, and reports false if the list has to be read again. */
  #apply(push: Push, conversation: string): boolean {
    const head = this.#heads.find((head) => head.conversation === conversation)
    if (!head) return push.type !== 'new_message' && push.type !== 'settings_changed'
    const last = head.last
    switch (push.type) {
      case 'new_message':
        this.#received(head, { ...push.message, seq: push.seq })
        break
      case 'message_edited':
      case 'message_recalled':
        if (last?.message_id === push.message_id) this.#change(head, { last: edited(last, push) })
        break
      case 'message_read':
        if (push.user !== this.user || push.seq <= head.read_seq) break
        if (push.seq < (last?.seq ?? 0)) return false
        this.#change(head, { read_seq: push.seq, unread: 0 })
        break
      case 'settings_changed': {
        const { type: _, ...settings } = push
        this.#change(head, settings)
      }
    }
    return true
  }

  /** Puts the conversation at the top. */
  #received(head: Head, last: StoredMessage): void {
    if (last.seq <= (head.last?.seq ?? 0)) return
    const unread = last.from === this.user || last.seq <= head.read_seq ? head.unread : Math.min(head.unread + 1, 999)
    const others = this.#heads.filter((other) => other.conversation !== head.conversation)
    this.#heads = [{ ...head, last, unread, hidden: false }, ...others]
    this.changed()
  }

  #change({ conversation }: Head, by: Partial<Head>): void {
    this.#heads = this.#heads.map((head) => (head.conversation === conversation ? { ...head, ...by } : head))
    this.changed()
  }

  async #first(): Promise<void> {
    this.#reading = true
    try {
      do {
        this.#stale = false
        await this.#page()
      } while (this.#stale)
    } catch (error) {
      this.#load = undefined // so that load tries again
      throw error
    } finally {
      this.#reading = false
    }
  }

  async #page(next?: string): Promise<void> {
    const page = await this.requests.make('conversations', next ? { limit: PAGE, next } : { limit: PAGE })
    const known = new Set(page.conversations.map(({ conversation }) => conversation))
    // What has moved to the top since stands there already.
    const others = this.#heads.filter(({ conversation }) => !known.has(conversation))
    this.#heads = next ? [...others, ...page.conversations] : page.conversations
    this.#next = page.more ? page.next : undefined
    this.#loaded = true
    for (const { conversation } of page.conversations) {
      for (const push of this.recent.of(conversation)) this.#apply(push, conversation)
    }
    this.changed()
  }
}

function edited(last: StoredMessage, push: Push): StoredMessage {
  if (push.type === 'message_edited') return { ...last, content: push.content }
  return { seq: last.seq, message_id: last.message_id, recalled: true }
}
