// Which conversations mention the user in what it has not read.

// most is how many pages of a conversation are read, from its end: unread messages are counted as far as that.
const most = 5;

// Mentions reads the unread messages of the conversations in the inbox, and from then on follows what comes.
export class Mentions {
  #client;
  #seqs = new Map(); // by conversation, of messages that mention the user, by message_id
  #searched = new Set();
  #searching = false;
  #listeners = new Set();

  constructor(client) {
    this.#client = client;
    client.on("new_message", ({ conversation, seq, message }) => this.#note(conversation, [{ ...message, seq }]));
    client.on("message_recalled", ({ conversation, message_id }) => {
      if (this.#seqs.get(conversation)?.delete(message_id)) this.#tell();
    });
    client.on("missed", () => {
      this.#searched.clear();
      this.#search();
    });
    client.inbox.subscribe(() => this.#search());
  }

  // in reports whether a conversation of the inbox has such a message.
  in({ conversation, read_seq }) {
    return [...this.#seqs.get(conversation)?.values() ?? []].some((seq) => seq > read_seq);
  }

  // subscribe calls the listener after every change until the returned function is called.
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell() {
    for (const listener of this.#listeners) listener();
  }

  #note(conversation, messages) {
    const { user } = this.#client;
    const here = messages.filter(({ from, mentions }) => from !== user && mentions?.includes(user));
    if (here.length === 0) return;
    const seqs = this.#seqs.get(conversation) ?? new Map();
    this.#seqs.set(conversation, seqs);
    for (const { message_id, seq } of here) seqs.set(message_id, seq);
    this.#tell();
  }

  // #search reads one conversation after the other, so that a long list does not come in the way of what the user does.
  async #search() {
    if (this.#searching) return;
    this.#searching = true;
    let head;
    while ((head = this.#client.inbox.getSnapshot().conversations.find((it) => it.unread > 0 && !this.#searched.has(it.conversation)))) {
      this.#searched.add(head.conversation);
      try {
        for (let pages = most, before; pages > 0; pages--) {
          const page = await this.#client.request("history", { ...before, conversation: head.conversation, limit: Math.min(head.unread, 200) });
          this.#note(head.conversation, page.messages);
          if (!page.more || !(page.messages[0]?.seq > head.read_seq)) break;
          before = { before_seq: page.messages[0].seq };
        }
      } catch {
        // The user is no member any more, or leaves the page: marks are a comfort.
      }
    }
    this.#searching = false;
  }
}
