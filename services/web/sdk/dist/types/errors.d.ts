import type { ErrorCode } from './protocol.js';
/** Why a request was refused. */
export declare class RequestError extends Error {
    readonly code: ErrorCode;
    constructor(code: ErrorCode, message: string);
}
/** Reports an error of the application's own code as its host does with those that nobody catches. */
export declare function report(error: unknown): void;
