import { type Environment, newID } from './environment.js'

const KEPT = 'millrace.device'

/**
 * The name of this tab as a device of the user. The server keeps one connection for each device, so two tabs must not have the
 * same name. Yet a tab should keep its name when it is loaded again: then it takes the place of its old connection, and goes
 * on with its own sends. sessionStorage keeps the name, and is copied when a tab is duplicated; a lock tells the two apart.
 */
export class Tab {
  readonly #name: Promise<string>
  #release: (() => void)[] = []

  constructor(
    private readonly account: string,
    fixed: string | undefined,
    private readonly env: Environment,
  ) {
    // What a browser does not allow must not keep the client from connecting.
    this.#name = fixed === undefined ? this.#claim().catch(() => newID(env)) : Promise.resolve(fixed)
  }

  readonly name = (): Promise<string> => this.#name

  /** Runs the function while no tab of that name is open. Without locks it cannot tell, and runs it. */
  async whileGone(name: string, run: () => Promise<void>): Promise<void> {
    if (!this.env.locks) return run()
    await this.env.locks.request(this.#lock(name), { ifAvailable: true }, (lock) => (lock ? run() : undefined))
  }

  /** Lets another tab have the name. */
  close(): void {
    for (const release of this.#release) release()
  }

  async #claim(): Promise<string> {
    const { locks, session } = this.env
    if (!locks) return newID(this.env)
    const kept = session?.getItem(KEPT)
    if (kept && (await this.#hold(kept))) return kept
    const name = newID(this.env)
    await this.#hold(name)
    session?.setItem(KEPT, name)
    return name
  }

  /** Takes the name for as long as the tab lives, and reports whether it was free. */
  #hold(name: string): Promise<boolean> {
    return new Promise((resolve) => {
      const held = (lock: unknown) => {
        resolve(lock !== null)
        return lock === null ? undefined : new Promise<void>((release) => this.#release.push(release))
      }
      // A page that may not use locks draws another name each time it is loaded.
      this.env.locks?.request(this.#lock(name), { ifAvailable: true }, held).catch(() => resolve(false))
    })
  }

  #lock(name: string): string {
    return `millrace ${this.account} ${name}`
  }
}
