import type { OutboxStore, StoredSend } from './store.js'

const NAME = 'millrace'
const SENDS = 'sends'

/** Returns a store in the browser's IndexedDB, which all tabs of an origin share. */
export function indexedDBStore(): OutboxStore {
  let opened: Promise<IDBDatabase> | undefined
  const database = () => {
    opened ??= open()
    opened.catch(() => (opened = undefined)) // the next call tries again
    return opened
  }
  const use = async <T>(mode: IDBTransactionMode, run: (sends: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    const transaction = (await database()).transaction(SENDS, mode)
    return new Promise((resolve, reject) => {
      const request = run(transaction.objectStore(SENDS))
      transaction.oncomplete = () => resolve(request.result)
      transaction.onabort = transaction.onerror = () => reject(transaction.error ?? request.error)
    })
  }
  return {
    all: (account) => use<StoredSend[]>('readonly', (sends) => sends.index('account').getAll(account)),
    put: async (send) => void (await use('readwrite', (sends) => sends.put(send))),
    remove: (send) => use('readwrite', (sends) => sends.delete(send.client_msg_id)),
  }

  function open(): Promise<IDBDatabase> {
    return new Promise((resolve, reject) => {
      const request = indexedDB.open(NAME, 1)
      request.onupgradeneeded = () => {
        request.result.createObjectStore(SENDS, { keyPath: 'client_msg_id' }).createIndex('account', 'account')
      }
      request.onsuccess = () => {
        const database = request.result
        // A later version of the page wants to change the database: let it.
        database.onversionchange = () => {
          database.close()
          opened = undefined
        }
        resolve(database)
      }
      request.onerror = () => reject(request.error)
    })
  }
}
