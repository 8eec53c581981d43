import { Observable } from './observable.js';
import type { Head } from './protocol.js';
import type { Recent } from './recent.js';
import type { Requests } from './requests.js';
export interface InboxSnapshot {
    /** The latest first. */
    readonly conversations: readonly Head[];
    readonly loaded: boolean;
    /** There are further ones: see loadMore. */
    readonly more: boolean;
}
/**
 * The list of the user's conversations. It is loaded when the first listener subscribes. What a push does not tell, such as how
 * many messages are unread behind a mark in their midst, is read again from the server.
 */
export declare class Inbox extends Observable<InboxSnapshot> {
    #private;
    private readonly user;
    private readonly requests;
    private readonly recent;
    constructor(user: number, requests: Requests, recent: Recent);
    /** Loads the latest conversations, unless they are here. */
    load(): Promise<void>;
    /** Loads the next page of the list, if there is one. */
    loadMore(): Promise<void>;
    protected take(): InboxSnapshot;
    protected watched(by: boolean): void;
}
