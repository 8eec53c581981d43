/** What the SDK needs of the world. Every part can be replaced, for tests and for other hosts than browsers. */
export interface Environment {
  WebSocket: SocketClass
  clock: Clock
  /** Returns a number from 0 up to but not including 1. */
  random: () => number
  /** Keeps the device's name over reloads of a tab; without one each load of a page is a device of its own. */
  session?: Pick<Storage, 'getItem' | 'setItem'> | undefined
  /** Makes sure that tabs do not take each other's device. Browsers have locks in secure contexts only. */
  locks?: Locks | undefined
  /** Calls the listener when the network is back or the page is looked at again, until the returned function is called. */
  onWake: (listener: () => void) => () => void
  /** Reports whether the network is known to be gone. */
  isOffline: () => boolean
  /** Gets what is wrong and nobody waits for, such as storage that is full. */
  warn: (message: string, error: unknown) => void
}

export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  setTimeout(run: () => void, ms: number): unknown
  clearTimeout(timer: unknown): void
}

/** The part of a WebSocket that is used. */
export interface Socket {
  onopen: ((event: never) => void) | null
  onmessage: ((event: { data: unknown }) => void) | null
  onclose: ((event: { code: number; reason: string }) => void) | null
  onerror: ((event: never) => void) | null
  send(text: string): void
  close(code?: number): void
}

/** A class like a browser's WebSocket, of whose objects the parts in Socket are used. */
export type SocketClass = new (url: string, protocols: string[]) => object

/** The part of navigator.locks that is used. */
export interface Locks {
  request(
    name: string,
    options: { ifAvailable: true },
    held: (lock: unknown) => Promise<void> | undefined,
  ): Promise<unknown>
}

type Target = Pick<EventTarget, 'addEventListener' | 'removeEventListener'>

/** What a browser or Node has; types are loose because either lacks some of it. */
interface Host extends Partial<Target> {
  WebSocket?: unknown
  document?: Target & { visibilityState: string }
  navigator?: { locks?: Locks; onLine?: boolean }
  sessionStorage?: Storage
}

const host = globalThis as unknown as Host

export function defaultEnvironment(): Environment {
  return {
    WebSocket: host.WebSocket as SocketClass,
    clock: {
      now: () => Date.now(),
      setTimeout: (run, ms) => setTimeout(run, ms),
      clearTimeout: (timer) => clearTimeout(timer as number),
    },
    random: Math.random,
    session: sessionStorageIfAllowed(),
    locks: host.navigator?.locks,
    onWake,
    isOffline: () => host.navigator?.onLine === false,
    warn: (message, error) => console.warn(`millrace: ${message}`, error),
  }
}

/** A browser that keeps nothing for a page throws when the page asks. */
function sessionStorageIfAllowed(): Storage | undefined {
  try {
    return host.sessionStorage
  } catch {
    return undefined
  }
}

function onWake(listener: () => void): () => void {
  const { document } = host
  const seen = () => {
    if (document?.visibilityState === 'visible') listener()
  }
  host.addEventListener?.('online', listener)
  document?.addEventListener('visibilitychange', seen)
  return () => {
    host.removeEventListener?.('online', listener)
    document?.removeEventListener('visibilitychange', seen)
  }
}

/** Returns an id that no other client of the user draws. */
export function newID(env: Environment): string {
  const part = () => Math.floor(env.random() * 2 ** 48).toString(36)
  return `${env.clock.now().toString(36)}-${part()}${part()}`
}
