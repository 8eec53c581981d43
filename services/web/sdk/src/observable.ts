import { report } from './errors.js'

/**
 * A value that changes. subscribe and getSnapshot fit React's useSyncExternalStore and signals: a snapshot never changes, and
 * is the same object until there is another one.
 */
export abstract class Observable<T> {
  readonly #listeners = new Set<() => void>()
  #snapshot: T | undefined

  /** Calls the listener after every change until the returned function is called. */
  readonly subscribe = (listener: () => void): (() => void) => {
    const own = () => listener() // the same listener may subscribe twice
    this.#listeners.add(own)
    if (this.#listeners.size === 1) this.watched(true)
    return () => {
      if (this.#listeners.delete(own) && this.#listeners.size === 0) this.watched(false)
    }
  }

  readonly getSnapshot = (): T => (this.#snapshot ??= this.take())

  /** Makes the snapshot of now. */
  protected abstract take(): T

  /** Is told when the first listener comes and when the last one goes. */
  protected watched(_by: boolean): void {}

  protected changed(): void {
    this.#snapshot = undefined
    for (const listener of [...this.#listeners]) {
      try {
        listener()
      } catch (error) {
        report(error)
      }
    }
  }
}
