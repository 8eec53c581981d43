import { type ConnectionSnapshot } from './connection.js';
import { Conversation } from './conversation.js';
import { type Environment } from './environment.js';
import { Groups } from './groups.js';
import { Inbox } from './inbox.js';
import { type Events, type Listener } from './listeners.js';
import type { Observable } from './observable.js';
import { type Presence } from './presence.js';
import type { Verb, Verbs } from './protocol.js';
import { type OutboxStore } from './store.js';
import { type TokenSource } from './tokens.js';
export interface Options {
    /** The server: ws://HOST/ws, or wss:// with TLS. Without it that of the page. */
    url?: string;
    /** The user's id. */
    user: number;
    /** Is called for a token before the first connection, when one is about to expire, and when the server wants another. */
    token: TokenSource;
    /** Names this client among those of its user. A new connection of a device replaces the older one. A browser's tab has one of its own. */
    device?: string;
    /** Where sends survive a reload: in a browser IndexedDB, elsewhere memory, unless something else is given. */
    store?: OutboxStore;
    /** Replaces parts of the world. */
    environment?: Partial<Environment>;
}
/** A user's client. It connects at once, and again whenever it must. */
export declare class Client {
    #private;
    readonly user: number;
    /** The user's conversations with their last messages and how many are unread. */
    readonly inbox: Inbox;
    readonly groups: Groups;
    constructor(options: Options);
    /** The state of the connection. */
    get connection(): Observable<ConnectionSnapshot>;
    /** Connects again after it was stopped. What waits is sent, and what was missed comes. */
    connect(): void;
    /** Ends the connection until connect is called. What is sent meanwhile waits. */
    disconnect(): void;
    /** Ends the client for good. Requests without an answer are refused; sends stay in the store. */
    close(): void;
    /** The conversation with another user, or with oneself. */
    direct(user: number): Conversation;
    /** The conversation of a group. */
    group(group_id: number): Conversation;
    /** The conversation of a name, as the inbox has them. It is the same object each time. */
    conversation(name: string): Conversation;
    /** Whether a user is online, kept up to date while somebody subscribes. */
    presence(user: number): Presence;
    /** Refuses direct messages of a user from now on, and hides typing and presence. */
    block(user: number): Promise<void>;
    unblock(user: number): Promise<void>;
    blocked(): Promise<number[]>;
    /** Calls the listener with every push of the type, and for each message once, until the returned function is called. */
    on<T extends keyof Events>(type: T, listener: Listener<T>): () => void;
    /**
     * Makes any request of the protocol. It waits for a connection, and is repeated until it is answered. It throws a RequestError
     * if the server refuses it, and the signal's reason if that gives it up.
     */
    request<V extends Exclude<Verb, 'connect' | 'refresh'>>(verb: V, body: Verbs[V][0], signal?: AbortSignal): Promise<Verbs[V][1]>;
}
