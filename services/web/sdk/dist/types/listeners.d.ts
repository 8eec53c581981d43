import type { Push, Pushes } from './protocol.js';
/** What a client tells its listeners. */
export interface Events extends Pushes {
    /** Pushes were missed for good. Conversations and the inbox load themselves again; who only listens must read history. */
    missed: object;
}
export type Listener<T extends keyof Events> = (event: {
    type: T;
} & Events[T]) => void;
/** The functions of the application that are called with what comes. */
export declare class Listeners {
    #private;
    on<T extends keyof Events>(type: T, listener: Listener<T>): () => void;
    tell(event: Push | {
        type: 'missed';
    }): void;
}
