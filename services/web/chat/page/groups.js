// What is known of the user's groups.

const changes = ["group_created", "group_renamed", "group_dissolved", "member_joined", "member_left", "member_role", "member_muted"];

// Groups asks for a group when somebody wants to know of it, and again when it has changed.
export class Groups {
  #client;
  #known = new Map(); // null: the user is no member
  #asking = new Set();
  #listeners = new Set();

  constructor(client) {
    this.#client = client;
    for (const type of changes) client.on(type, ({ group_id }) => {
      if (this.#known.has(group_id)) this.#ask(group_id);
    });
    client.on("missed", () => { for (const id of this.#known.keys()) this.#ask(id); });
  }

  // of returns the group, or null if the user is no member of it, or undefined until that is known.
  of(id) {
    if (!this.#known.has(id)) {
      this.#known.set(id, undefined);
      this.#ask(id);
    }
    return this.#known.get(id);
  }

  name(id) {
    return this.of(id)?.name || `Group ${id}`;
  }

  // subscribe calls the listener after every change until the returned function is called.
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #ask(id) {
    if (this.#asking.has(id)) return void this.#asking.add(-id); // it has changed once more
    this.#asking.add(id);
    do {
      this.#asking.delete(-id);
      try {
        const group = await this.#client.groups.info(id);
        this.#known.set(id, group.members.includes(this.#client.user) ? group : null); // a member until just now
      } catch (fault) {
        if (fault.code === "not_found") this.#known.set(id, null);
      }
    } while (this.#asking.has(-id));
    this.#asking.delete(id);
    for (const listener of this.#listeners) listener();
  }
}

export const roleOf = (group, user) => (group.owner === user ? "owner" : group.admins?.includes(user) ? "admin" : "member");
