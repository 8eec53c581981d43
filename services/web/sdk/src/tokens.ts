import type { Clock } from './environment.js'

/** Returns a token of the user, or null if the user is signed out, which ends the connection for good. */
export type TokenSource = () => string | null | Promise<string | null>

/** How long the application may take for a token. */
const PATIENCE = 30_000
/** A token is not renewed more often, whatever the clocks say. */
const LEAST_LIFE = 30_000
/** Timers take no more. */
const LONGEST_TIMER = 2 ** 31 - 1

/** The token in use. */
export class Tokens {
  #token: string | undefined

  constructor(
    private readonly source: TokenSource,
    private readonly clock: Clock,
  ) {}

  /** Returns the token in use, or a new one if there is none. */
  async get(): Promise<string | null> {
    return this.#token ?? this.renew()
  }

  async renew(): Promise<string | null> {
    let timer: unknown
    const late = new Promise<never>((_, reject) => {
      timer = this.clock.setTimeout(() => reject(new Error('the token took too long')), PATIENCE)
    })
    try {
      const token = await Promise.race([Promise.resolve().then(this.source), late])
      this.#token = token ?? undefined
      return token
    } finally {
      this.clock.clearTimeout(timer)
    }
  }

  /** Makes the next get ask for another token. */
  forget(): void {
    this.#token = undefined
  }

  /** Returns in how many milliseconds to renew the token, with a tenth of its life left; undefined: it does not say. */
  renewIn(): number | undefined {
    const { exp, iat } = claims(this.#token ?? '')
    if (!exp) return undefined
    const left = (iat ? Math.min(exp - iat, exp - this.clock.now() / 1000) : exp - this.clock.now() / 1000) * 1000
    return Math.min(Math.max(left * 0.9, LEAST_LIFE), LONGEST_TIMER)
  }
}

/** Reads the times in a JWT without checking it, which is the server's business. */
function claims(token: string): { exp?: number; iat?: number } {
  try {
    const body = token.split('.')[1] as string
    const read = JSON.parse(atob(body.replace(/-/g, '+').replace(/_/g, '/'))) as { exp?: unknown; iat?: unknown }
    return {
      ...(typeof read.exp === 'number' && { exp: read.exp }),
      ...(typeof read.iat === 'number' && { iat: read.iat }),
    }
  } catch {
    return {}
  }
}
