import { type Environment } from './environment.js';
import type { RequestError } from './errors.js';
import { Observable } from './observable.js';
import type { Outbox } from './outbox.js';
import type { NewMessage, Push, Reader, Sent, Settings, Target, Verb, Verbs } from './protocol.js';
import type { Recent } from './recent.js';
import type { Requests } from './requests.js';
import type { StoredSend } from './store.js';
/** A message as it is shown. */
export interface Message extends Partial<NewMessage> {
    /** Undefined until the server has accepted the message. */
    readonly message_id?: string;
    /** The id that its sender gave it; undefined if it was recalled before it was loaded. */
    readonly client_msg_id?: string;
    /** Its place. Undefined until the server has told it: such a message stands behind all others. */
    readonly seq?: number;
    readonly from?: number;
    /** Unix seconds. */
    readonly timestamp?: number;
    /** Unix seconds, by this machine's clock if the edit was seen as it came. */
    readonly edited_at?: number;
    readonly recalled?: boolean;
    /** Why a moderator has taken the user's own message away. */
    readonly moderated?: string;
    /** pending: not yet known to be accepted. failed: refused, see error; retry or discard it. */
    readonly state: 'pending' | 'sent' | 'failed';
    readonly error?: StoredSend['error'];
}
export interface ConversationSnapshot {
    /** By seq, then what is not yet accepted, in the order of sending. A message without changes is the same object again. */
    readonly messages: readonly Message[];
    /** The newest messages are here. */
    readonly loaded: boolean;
    /** History is being loaded. */
    readonly loading: boolean;
    /** There are older messages: see loadOlder. */
    readonly more: boolean;
    /** Why history could not be loaded. */
    readonly error?: RequestError;
    /** Up to which seq users have read, by user, as far as the server tells. */
    readonly reads: Readonly<Record<number, number>>;
    /** Who is writing. */
    readonly typing: readonly number[];
}
/** What a conversation needs of its client. */
export interface ConversationClient {
    readonly user: number;
    readonly env: Environment;
    readonly requests: Requests;
    readonly outbox: Outbox;
    readonly recent: Recent;
    /** Makes a request that is not worth waiting for a connection. */
    signal<V extends Verb>(verb: V, body: Verbs[V][0]): void;
}
/**
 * A conversation as an application shows it. It loads the newest messages when the first listener subscribes, and from then on
 * is kept up to date, over lost connections too.
 */
export declare class Conversation extends Observable<ConversationSnapshot> {
    #private;
    readonly name: string;
    private readonly client;
    readonly target: Target;
    constructor(name: string, client: ConversationClient);
    /** Sends a text or any message. The promise is kept when the server accepts it; until then the snapshot has it as pending. */
    send(message: string | (NewMessage & {
        client_msg_id?: string;
    })): Promise<Sent>;
    /** Sends a refused message once more, behind those that wait. */
    retry(client_msg_id: string): void;
    /** Forgets a refused or pending message. One that is under way may be accepted all the same. */
    discard(client_msg_id: string): void;
    /** Replaces the content of the user's own message, and its extra if there is one. */
    edit(message_id: string, content: string, extra?: Record<string, unknown>): Promise<void>;
    recall(message_id: string): Promise<void>;
    /** Marks the conversation as read up to a message, or up to the newest one. Call it as often as you like. */
    read(seq?: number): void;
    /** Tells the others that the user is writing. Call it with every key. */
    typing(): void;
    settings(settings: Settings): Promise<void>;
    /** Returns who has read at least up to the message, at most 1,000 users. */
    readers(seq: number): Promise<Reader[]>;
    /** Loads the newest messages, unless they are here. */
    load(): Promise<void>;
    /** Loads a page of older messages, if there are any. */
    loadOlder(): Promise<void>;
    protected watched(by: boolean): void;
    protected take(): ConversationSnapshot;
}
/** Returns the conversation that the push is about, if it is about one. */
export declare function conversationOf(push: Push, user: number): string | undefined;
