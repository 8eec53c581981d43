import { type Environment } from './environment.js';
import type { Group, Role } from './protocol.js';
import type { Requests } from './requests.js';
/**
 * The groups of the user. Every call is kept once the change holds, also over a lost connection, and throws a RequestError if
 * the server refuses it.
 */
export declare class Groups {
    #private;
    private readonly requests;
    private readonly env;
    constructor(requests: Requests, env: Environment);
    /** Creates a group. With join 'open' anybody may join. */
    create(group: {
        name: string;
        members?: number[];
        join?: 'open';
    }): Promise<Group>;
    info(group_id: number): Promise<Group>;
    join(group_id: number): Promise<unknown>;
    leave(group_id: number): Promise<unknown>;
    add(group_id: number, user: number): Promise<unknown>;
    remove(group_id: number, user: number): Promise<unknown>;
    rename(group_id: number, name: string): Promise<unknown>;
    /** Ends the group for all its members. */
    dissolve(group_id: number): Promise<unknown>;
    /** Gives a member a role; 'owner' hands the group over. */
    setRole(group_id: number, user: number, role: Role): Promise<unknown>;
    /** Lets a member, or without a user all but admins, send nothing until a time in Unix seconds; 0 ends it. */
    mute(group_id: number, until: number, user?: number): Promise<unknown>;
}
