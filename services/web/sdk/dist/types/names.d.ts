import type { Target } from './protocol.js';
/** Returns the name of the conversation of two users. */
export declare function directName(a: number, b: number): string;
export declare function groupName(group_id: number): string;
/** Returns where a user's messages for the conversation go. */
export declare function targetOf(conversation: string, user: number): Target;
