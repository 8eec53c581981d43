import type { Environment } from './environment.js';
import { RequestError } from './errors.js';
import { Observable } from './observable.js';
import type { Connected, Push } from './protocol.js';
import type { Tokens } from './tokens.js';
/** idle: not asked to connect yet. waiting: until the next attempt. stopped: for good, unless the application connects again. */
export type ConnectionState = 'idle' | 'connecting' | 'connected' | 'waiting' | 'stopped';
/** Why the connection ended, or could not be made. */
export type Reason = 
/** The browser says that there is no network. */
'offline'
/** No connection could be made. */
 | 'unreachable'
/** The connection broke. */
 | 'lost'
/** The server did not answer a ping. */
 | 'silent'
/** The application did not return a token. */
 | 'no_token'
/** The server refused the token; another one is asked for. */
 | 'unauthenticated' | 'token_expired' | 'going_away' | 'try_later' | 'too_slow' | 'too_many'
/** Stops: another connection of this device has taken its place. */
 | 'replaced'
/** Stops: the operator has disconnected the user. */
 | 'disconnected'
/** Stops: the server refuses what the client asks for, or the token is another user's. */
 | 'refused'
/** Stops: the application returned null for a token. */
 | 'signed_out'
/** Stops: the application asked for it. */
 | 'closed';
export interface ConnectionSnapshot {
    readonly state: ConnectionState;
    readonly reason?: Reason;
    /** What the server or the browser said about the reason, for people who look into it. */
    readonly detail?: string;
    /** When the next attempt begins, in milliseconds since 1970, while the state is waiting. */
    readonly retryAt?: number;
    /** False while the server knows of missed messages that it cannot send yet. They follow by themselves. */
    readonly complete: boolean;
}
/** What a connection tells the rest of the client, always in the order of the server's frames. */
export interface ConnectionEvents {
    connected(session: Connected): void;
    push(push: Push): void;
}
/** Gets the answer to a request, unless the connection is lost before. */
export type Answered = (error: RequestError | undefined, result: unknown) => void;
/** The connection to the server: one socket after the other. */
export declare class Connection extends Observable<ConnectionSnapshot> {
    #private;
    private readonly url;
    private readonly user;
    private readonly device;
    private readonly tokens;
    private readonly env;
    private readonly events;
    constructor(url: string, user: number, device: () => Promise<string>, tokens: Tokens, env: Environment, events: ConnectionEvents);
    protected take(): ConnectionSnapshot;
    /** The number of the present connection; 0: there is none. */
    get session(): number;
    /** Connects, unless it is connected or about to be. */
    connect(): void;
    /** Ends the connection until connect is called. */
    disconnect(): void;
    /** Sends a request over the present connection. */
    call(verb: string, body: unknown, answered: Answered): void;
}
