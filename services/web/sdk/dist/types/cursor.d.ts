import type { Cursor, Push } from './protocol.js';
/** Where the client is in each partition of the log. It lasts as long as the page, as do the messages that it stands for. */
export declare class Position {
    /** Undefined before the first connection: then nothing is replayed. */
    cursor: Cursor | undefined;
    /** Follows a push that the client has handled. */
    follow(push: Push): void;
}
