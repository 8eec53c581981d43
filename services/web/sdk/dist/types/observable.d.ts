/**
 * A value that changes. subscribe and getSnapshot fit React's useSyncExternalStore and signals: a snapshot never changes, and
 * is the same object until there is another one.
 */
export declare abstract class Observable<T> {
    #private;
    /** Calls the listener after every change until the returned function is called. */
    readonly subscribe: (listener: () => void) => (() => void);
    readonly getSnapshot: () => T;
    /** Makes the snapshot of now. */
    protected abstract take(): T;
    /** Is told when the first listener comes and when the last one goes. */
    protected watched(_by: boolean): void;
    protected changed(): void;
}
