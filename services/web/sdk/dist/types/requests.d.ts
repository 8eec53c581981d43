import type { Connection } from './connection.js';
import type { Environment } from './environment.js';
import { RequestError } from './errors.js';
import type { Verb, Verbs } from './protocol.js';
/**
 * The requests that wait for their answers, over one connection after the other. Those of a lane (a conversation, mostly) are
 * made one after the other, each once the one before it is answered. So their order is kept even where one has to be repeated
 * because the server was unavailable, or because the connection broke and nobody knows what became of it.
 */
export declare class Requests {
    #private;
    private readonly socket;
    private readonly env;
    constructor(socket: Connection, env: Environment);
    /** Makes a request and calls done once. The returned function gives the request up, if it is not answered by then. */
    add<V extends Verb>(verb: V, body: Verbs[V][0], done: (error: RequestError | undefined, result: Verbs[V][1]) => void, lane?: string): () => void;
    /** Makes a request and returns its result, or throws a RequestError. */
    make<V extends Verb>(verb: V, body: Verbs[V][0], lane?: string, signal?: AbortSignal): Promise<Verbs[V][1]>;
    /** Sends what waits, over a new connection. */
    connected(): void;
    /** Ends all requests. */
    close(): void;
}
