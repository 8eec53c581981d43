import type { Clock } from './environment.js';
/** Returns a token of the user, or null if the user is signed out, which ends the connection for good. */
export type TokenSource = () => string | null | Promise<string | null>;
/** The token in use. */
export declare class Tokens {
    #private;
    private readonly source;
    private readonly clock;
    constructor(source: TokenSource, clock: Clock);
    /** Returns the token in use, or a new one if there is none. */
    get(): Promise<string | null>;
    renew(): Promise<string | null>;
    /** Makes the next get ask for another token. */
    forget(): void;
    /** Returns in how many milliseconds to renew the token, with a tenth of its life left; undefined: it does not say. */
    renewIn(): number | undefined;
}
