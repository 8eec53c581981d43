import type { ConversationClient } from './conversation.js';
import type { Target } from './protocol.js';
/** Who is writing in a conversation. */
export declare class Typing {
    #private;
    private readonly target;
    private readonly client;
    private readonly changed;
    users: readonly number[];
    constructor(target: Target, client: ConversationClient, changed: () => void);
    /** Tells the others, unless they were told just before. Nobody is told later if there is no connection now. */
    tell(): void;
    /** The user has sent the message: the next key begins another. */
    stopped(): void;
    heard(user: number): void;
    ended(user: number): void;
}
