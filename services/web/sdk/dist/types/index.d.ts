/** A client of Millrace for browsers and Node, without dependencies. */
export { Client, type Options } from './client.js';
export type { ConnectionSnapshot, ConnectionState, Reason } from './connection.js';
export type { Conversation, ConversationSnapshot, Message } from './conversation.js';
export type { Clock, Environment, Locks, Socket, SocketClass } from './environment.js';
export { RequestError } from './errors.js';
export type { Groups } from './groups.js';
export type { Inbox, InboxSnapshot } from './inbox.js';
export { indexedDBStore } from './indexeddb.js';
export type { Events, Listener } from './listeners.js';
export type { Observable } from './observable.js';
export type { Presence, PresenceSnapshot } from './presence.js';
export type { Connected, Cursor, ErrorCode, Group, Head, Heads, NewMessage, Page, Push, PushType, Pushes, Reader, Role, Sent, Settings, StoredMessage, Target, Verb, Verbs, } from './protocol.js';
export { memoryStore, type OutboxStore, type StoredSend } from './store.js';
export type { TokenSource } from './tokens.js';
