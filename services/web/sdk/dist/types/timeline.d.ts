import type { Page, StoredMessage } from './protocol.js';
/** The messages of a conversation that the client has, each once, sorted by seq. */
export declare class Timeline {
    #private;
    get messages(): readonly StoredMessage[];
    get floor(): number;
    get newest(): number;
    has(message_id: string): boolean;
    /** Puts a message at its place. Of a message that came twice the lower seq counts. */
    place(message: StoredMessage): void;
    /** Changes a message that is here. */
    change(message_id: string, change: (message: StoredMessage) => StoredMessage): void;
    /** Adds a page that ends where the timeline begins. */
    addOlder({ messages, more }: Pick<Page, 'messages' | 'more'>): void;
    /** Replaces everything by what history has now, except what is newer than that. */
    replace(messages: StoredMessage[], more: boolean): void;
}
