import { Connection, type ConnectionSnapshot } from './connection.js'
import { Conversation, type ConversationClient, conversationOf } from './conversation.js'
import { defaultEnvironment, type Environment } from './environment.js'
import { Groups } from './groups.js'
import { Inbox } from './inbox.js'
import { indexedDBStore } from './indexeddb.js'
import { type Events, type Listener, Listeners } from './listeners.js'
import { directName, groupName } from './names.js'
import type { Observable } from './observable.js'
import { Outbox } from './outbox.js'
import { type Presence, Presences } from './presence.js'
import type { Connected, Push, Verb, Verbs } from './protocol.js'
import { Recent } from './recent.js'
import { Requests } from './requests.js'
import { memoryStore, type OutboxStore } from './store.js'
import { Tab } from './tab.js'
import { type TokenSource, Tokens } from './tokens.js'

export interface Options {
  /** The server: ws://HOST/ws, or wss:// with TLS. Without it that of the page. */
  url?: string
  /** The user's id. */
  user: number
  /** Is called for a token before the first connection, when one is about to expire, and when the server wants another. */
  token: TokenSource
  /** Names this client among those of its user. A new connection of a device replaces the older one. A browser's tab has one of its own. */
  device?: string
  /** Where sends survive a reload: in a browser IndexedDB, elsewhere memory, unless something else is given. */
  store?: OutboxStore
  /** Replaces parts of the world. */
  environment?: Partial<Environment>
}

/** A user's client. It connects at once, and again whenever it must. */
export class Client {
  readonly user: number
  /** The user's conversations with their last messages and how many are unread. */
  readonly inbox: Inbox
  readonly groups: Groups
  readonly #env: Environment
  readonly #connection: Connection
  readonly #requests: Requests
  readonly #outbox: Outbox
  readonly #tab: Tab
  readonly #recent = new Recent()
  readonly #conversations = new Map<string, Conversation>()
  readonly #presences: Presences
  readonly #listeners = new Listeners()
  #connectedBefore = false

  constructor(options: Options) {
    const env = (this.#env = { ...defaultEnvironment(), ...options.environment })
    const url = options.url ?? location.origin.replace(/^http/, 'ws') + '/ws'
    const account = `${url} ${options.user}`
    this.user = options.user
    this.#tab = new Tab(account, options.device, env)
    this.#connection = new Connection(url, this.user, this.#tab.name, new Tokens(options.token, env.clock), env, {
      connected: (session) => this.#connected(session),
      push: (push) => this.#push(push),
    })
    this.#requests = new Requests(this.#connection, env)
    const store = options.store ?? (typeof indexedDB === 'undefined' ? memoryStore() : indexedDBStore())
    this.#outbox = new Outbox(account, this.#tab, store, this.#requests, env, {
      changed: (conversation) => this.#conversations.get(conversation)?.outboxChanged(),
      sent: (send, sent) => this.#conversations.get(send.conversation)?.sent(send, sent),
    })
    this.#presences = new Presences(this.#requests, env.clock.now)
    this.inbox = new Inbox(this.user, this.#requests, this.#recent)
    this.groups = new Groups(this.#requests, env)
    void this.#outbox.load()
    this.#connection.connect()
  }

  /** The state of the connection. */
  get connection(): Observable<ConnectionSnapshot> {
    return this.#connection
  }

  /** Connects again after it was stopped. What waits is sent, and what was missed comes. */
  connect(): void {
    this.#connection.connect()
  }

  /** Ends the connection until connect is called. What is sent meanwhile waits. */
  disconnect(): void {
    this.#connection.disconnect()
  }

  /** Ends the client for good. Requests without an answer are refused; sends stay in the store. */
  close(): void {
    this.#connection.disconnect()
    this.#requests.close()
    this.#tab.close()
  }

  /** The conversation with another user, or with oneself. */
  direct(user: number): Conversation {
    return this.conversation(directName(this.user, user))
  }

  /** The conversation of a group. */
  group(group_id: number): Conversation {
    return this.conversation(groupName(group_id))
  }

  /** The conversation of a name, as the inbox has them. It is the same object each time. */
  conversation(name: string): Conversation {
    let conversation = this.#conversations.get(name)
    if (!conversation) {
      const client: ConversationClient = {
        user: this.user,
        env: this.#env,
        requests: this.#requests,
        outbox: this.#outbox,
        recent: this.#recent,
        signal: (verb, body) => {
          if (this.#connection.session) this.#connection.call(verb, body, () => {})
        },
      }
      conversation = new Conversation(name, client)
      this.#conversations.set(name, conversation)
    }
    return conversation
  }

  /** Whether a user is online, kept up to date while somebody subscribes. */
  presence(user: number): Presence {
    return this.#presences.of(user)
  }

  /** Refuses direct messages of a user from now on, and hides typing and presence. */
  async block(user: number): Promise<void> {
    await this.request('block', { user })
  }

  async unblock(user: number): Promise<void> {
    await this.request('unblock', { user })
  }

  async blocked(): Promise<number[]> {
    return (await this.request('blocked', {})).users
  }

  /** Calls the listener with every push of the type, and for each message once, until the returned function is called. */
  on<T extends keyof Events>(type: T, listener: Listener<T>): () => void {
    return this.#listeners.on(type, listener)
  }

  /**
   * Makes any request of the protocol. It waits for a connection, and is repeated until it is answered. It throws a RequestError
   * if the server refuses it, and the signal's reason if that gives it up.
   */
  request<V extends Exclude<Verb, 'connect' | 'refresh'>>(verb: V, body: Verbs[V][0], signal?: AbortSignal): Promise<Verbs[V][1]> {
    return this.#requests.make(verb, body, undefined, signal)
  }

  #connected({ recovered }: Connected): void {
    const again = this.#connectedBefore
    this.#connectedBefore = true
    if (!recovered) this.#recent.clear()
    for (const conversation of this.#conversations.values()) {
      if (!recovered) conversation.reload()
      else if (again) conversation.resumed()
    }
    this.#requests.connected()
    this.#presences.ask()
    if (again) {
      this.inbox.reload()
      void this.#outbox.adopt()
    }
    if (!recovered) this.#listeners.tell({ type: 'missed' })
  }

  #push(push: Push): void {
    this.#recent.add(push)
    const name = conversationOf(push, this.user)
    if (name) {
      this.#conversations.get(name)?.push(push)
      this.inbox.push(push, name)
    }
    this.#presences.push(push)
    this.#listeners.tell(push)
  }
}
