import { type Environment, newID } from './environment.js'
import { groupName } from './names.js'
import type { Group, Role, Verb, Verbs } from './protocol.js'
import type { Requests } from './requests.js'

/**
 * The groups of the user. Every call is kept once the change holds, also over a lost connection, and throws a RequestError if
 * the server refuses it.
 */
export class Groups {
  constructor(
    private readonly requests: Requests,
    private readonly env: Environment,
  ) {}

  /** Creates a group. With join 'open' anybody may join. */
  create(group: { name: string; members?: number[]; join?: 'open' }): Promise<Group> {
    return this.requests.make('group_create', { ...group, client_msg_id: newID(this.env) })
  }

  info(group_id: number): Promise<Group> {
    return this.requests.make('group_info', { group_id })
  }

  join(group_id: number): Promise<unknown> {
    return this.#change('group_join', { group_id })
  }

  leave(group_id: number): Promise<unknown> {
    return this.#change('group_leave', { group_id })
  }

  add(group_id: number, user: number): Promise<unknown> {
    return this.#change('group_add', { group_id, user })
  }

  remove(group_id: number, user: number): Promise<unknown> {
    return this.#change('group_remove', { group_id, user })
  }

  rename(group_id: number, name: string): Promise<unknown> {
    return this.#change('group_rename', { group_id, name })
  }

  /** Ends the group for all its members. */
  dissolve(group_id: number): Promise<unknown> {
    return this.#change('group_dissolve', { group_id })
  }

  /** Gives a member a role; 'owner' hands the group over. */
  setRole(group_id: number, user: number, role: Role): Promise<unknown> {
    return this.#change('group_role', { group_id, user, role })
  }

  /** Lets a member, or without a user all but admins, send nothing until a time in Unix seconds; 0 ends it. */
  mute(group_id: number, until: number, user?: number): Promise<unknown> {
    return this.#change('group_mute', user === undefined ? { group_id, until } : { group_id, until, user })
  }

  #change<V extends Verb>(verb: V, body: Verbs[V][0] & { group_id: number }): Promise<Verbs[V][1]> {
    return this.requests.make(verb, { ...body, client_msg_id: newID(this.env) }, groupName(body.group_id))
  }
}
