import { type Environment } from './environment.js';
import type { NewMessage, Sent, Target } from './protocol.js';
import type { Requests } from './requests.js';
import type { OutboxStore, StoredSend } from './store.js';
import type { Tab } from './tab.js';
/** What the outbox tells of its sends. */
export interface OutboxEvents {
    /** The sends of the conversation have changed. */
    changed(conversation: string): void;
    /** The send was accepted, and is in the outbox no more. */
    sent(send: StoredSend, sent: Sent): void;
}
/**
 * The messages that are not known to be accepted. Those of one conversation are sent one after the other, in the order in which
 * they were posted, and repeated with the same client_msg_id until the server accepts or refuses them. A refused one stays until
 * it is retried or discarded. The store keeps them over a reload.
 */
export declare class Outbox {
    #private;
    private readonly account;
    private readonly tab;
    private readonly store;
    private readonly requests;
    private readonly env;
    private readonly events;
    constructor(account: string, tab: Tab, store: OutboxStore, requests: Requests, env: Environment, events: OutboxEvents);
    /** Posts a message, and returns a promise of its acceptance. */
    post(conversation: string, target: Target, message: NewMessage & {
        client_msg_id?: string;
    }): Promise<Sent>;
    /** Returns the sends of a conversation in order. */
    of(conversation: string): StoredSend[];
    /** Sends a refused message once more, behind those that wait. */
    retry(client_msg_id: string): void;
    /** Forgets a message. One that is under way may be accepted all the same. */
    discard(client_msg_id: string): void;
    /** Takes over what the store has of this tab, and of tabs that are gone, to send it before anything new. */
    load(): Promise<void>;
    /** Takes over the sends of tabs that have gone since. */
    adopt(): Promise<void>;
}
