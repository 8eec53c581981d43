import { type Environment } from './environment.js';
/**
 * The name of this tab as a device of the user. The server keeps one connection for each device, so two tabs must not have the
 * same name. Yet a tab should keep its name when it is loaded again: then it takes the place of its old connection, and goes
 * on with its own sends. sessionStorage keeps the name, and is copied when a tab is duplicated; a lock tells the two apart.
 */
export declare class Tab {
    #private;
    private readonly account;
    private readonly env;
    constructor(account: string, fixed: string | undefined, env: Environment);
    readonly name: () => Promise<string>;
    /** Runs the function while no tab of that name is open. Without locks it cannot tell, and runs it. */
    whileGone(name: string, run: () => Promise<void>): Promise<void>;
    /** Lets another tab have the name. */
    close(): void;
}
