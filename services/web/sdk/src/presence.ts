import { Observable } from './observable.js'
import type { Push } from './protocol.js'
import type { Requests } from './requests.js'

export interface PresenceSnapshot {
  readonly online: boolean
  /** Unix seconds, of who is offline and known. */
  readonly last_seen?: number
}

const OFFLINE: PresenceSnapshot = { online: false }

/** Whether one user is online. It is watched while somebody subscribes. */
export class Presence extends Observable<PresenceSnapshot> {
  #now = OFFLINE

  constructor(private readonly onWatched: (by: boolean) => void) {
    super()
  }

  /** @internal */
  set(now: PresenceSnapshot): void {
    this.#now = now
    this.changed()
  }

  protected take(): PresenceSnapshot {
    return this.#now
  }

  protected override watched(by: boolean): void {
    this.onWatched(by)
  }
}

/** Whether users are online. The server tells a connection of those users that it has asked for last: at most 1,000. */
export class Presences {
  readonly #users = new Map<number, Presence>()
  readonly #watched = new Set<number>()
  #asking = false

  constructor(
    private readonly requests: Requests,
    private readonly now: () => number,
  ) {}

  of(user: number): Presence {
    let presence = this.#users.get(user)
    if (!presence) {
      presence = new Presence((by) => {
        if (by) this.#watched.add(user)
        else this.#watched.delete(user)
        if (by) this.ask()
      })
      this.#users.set(user, presence)
    }
    return presence
  }

  /** Asks once for all that are watched by the time this task ends: after a change, and over each new connection. */
  ask(): void {
    if (this.#asking || this.#watched.size === 0) return
    this.#asking = true
    queueMicrotask(() => {
      const users = [...this.#watched]
      this.#asking = false
      this.requests.add('presence', { users }, (error, answer) => {
        if (error) return
        const online = new Set(answer.online)
        for (const user of users) {
          const last_seen = answer.last_seen?.[user]
          this.of(user).set(online.has(user) ? { online: true } : last_seen ? { online: false, last_seen } : OFFLINE)
        }
      }, 'presence')
    })
  }

  push(push: Push): void {
    if (push.type === 'user_online') this.#users.get(push.user)?.set({ online: true })
    if (push.type === 'user_offline') {
      this.#users.get(push.user)?.set({ online: false, last_seen: Math.floor(this.now() / 1000) })
    }
  }
}
