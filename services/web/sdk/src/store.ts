import type { ErrorCode, NewMessage, Target } from './protocol.js'

/** A send that is not known to be accepted. */
export interface StoredSend {
  readonly client_msg_id: string
  /** The server and the user that it is for; no other client touches it. */
  readonly account: string
  /** The device (a tab, say) that sends it. */
  readonly owner: string
  /** Orders the sends of an account. */
  readonly order: number
  readonly conversation: string
  readonly message: Target & NewMessage
  /** Unix seconds. */
  readonly timestamp: number
  /** Why the server refused it, if it did. */
  readonly error?: { readonly code: ErrorCode; readonly message: string }
}

/** Keeps sends over a reload of the page or a restart of the process. Calls of one client come one after the other. */
export interface OutboxStore {
  /** Returns the sends of the account, in any order. */
  all(account: string): Promise<StoredSend[]>
  /** Adds the send, or replaces the one with its client_msg_id. */
  put(send: StoredSend): Promise<void>
  remove(send: StoredSend): Promise<void>
}

/** Returns a store that lasts as long as the process: for Node, and for pages that may keep nothing. */
export function memoryStore(): OutboxStore {
  const sends = new Map<string, StoredSend>()
  return {
    all: async (account) => [...sends.values()].filter((send) => send.account === account),
    put: async (send) => void sends.set(send.client_msg_id, send),
    remove: async (send) => void sends.delete(send.client_msg_id),
  }
}
