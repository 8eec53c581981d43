import type { Cursor, Push } from './protocol.js'

/** Where the client is in each partition of the log. It lasts as long as the page, as do the messages that it stands for. */
export class Position {
  /** Undefined before the first connection: then nothing is replayed. */
  cursor: Cursor | undefined

  /** Follows a push that the client has handled. */
  follow(push: Push): void {
    if (push.type === 'complete') {
      this.cursor = push.cursor
    } else if ('pos' in push && push.pos) {
      const [partition, seq] = push.pos.split(':') as [string, string]
      this.cursor ??= {}
      this.cursor[partition] = Number(seq)
    }
  }
}
