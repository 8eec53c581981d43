import { Observable } from './observable.js';
import type { Push } from './protocol.js';
import type { Requests } from './requests.js';
export interface PresenceSnapshot {
    readonly online: boolean;
    /** Unix seconds, of who is offline and known. */
    readonly last_seen?: number;
}
/** Whether one user is online. It is watched while somebody subscribes. */
export declare class Presence extends Observable<PresenceSnapshot> {
    #private;
    private readonly onWatched;
    constructor(onWatched: (by: boolean) => void);
    protected take(): PresenceSnapshot;
    protected watched(by: boolean): void;
}
/** Whether users are online. The server tells a connection of those users that it has asked for last: at most 1,000. */
export declare class Presences {
    #private;
    private readonly requests;
    private readonly now;
    constructor(requests: Requests, now: () => number);
    of(user: number): Presence;
    /** Asks once for all that are watched by the time this task ends: after a change, and over each new connection. */
    ask(): void;
    push(push: Push): void;
}
