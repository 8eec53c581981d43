import type { Push } from './protocol.js';
/**
 * The latest pushes about conversations, without gaps. A page of history may be older than what was pushed before it came:
 * storing may lag, and the page may be read just before something happens. What was pushed is applied on top of the page.
 */
export declare class Recent {
    #private;
    add(push: Push): void;
    /** Forgets everything, because some pushes were missed for good. */
    clear(): void;
    of(conversation: string): Push[];
}
