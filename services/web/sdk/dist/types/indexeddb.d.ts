import type { OutboxStore } from './store.js';
/** Returns a store in the browser's IndexedDB, which all tabs of an origin share. */
export declare function indexedDBStore(): OutboxStore;
