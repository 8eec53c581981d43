import type { ErrorCode } from './protocol.js'

/** Why a request was refused. */
export class RequestError extends Error {
  constructor(
    readonly code: ErrorCode,
    message: string,
  ) {
    super(message)
    this.name = 'RequestError'
  }
}

/** Reports an error of the application's own code as its host does with those that nobody catches. */
export function report(error: unknown): void {
  if (typeof reportError === 'function') return reportError(error)
  queueMicrotask(() => {
    throw error
  })
}
