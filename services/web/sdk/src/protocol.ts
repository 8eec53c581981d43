/** The frames of the WebSocket protocol as types. All names are those of the protocol. This file makes no code. */

/** Where a message goes: to a user or to a group. */
export type Target = { to: number } | { group_id: number }

/** What a sender says. */
export interface NewMessage {
  /** Text of at most 32 KiB, whose meaning the type sets. */
  content: string
  /** 1 text (the default), 2 image, 3 file, 4 audio, 5 video, 6 location; 100 and up are the application's own. */
  message_type?: number
  /** The application's own, at most 4 KiB of JSON. */
  extra?: Record<string, unknown>
  /** The message_id of a message of the conversation. */
  reply_to?: string
  /** At most 50 users. */
  mentions?: readonly number[]
}

/** A message as history has it. A recalled one has only seq, message_id and recalled. */
export interface StoredMessage extends Partial<NewMessage> {
  seq: number
  message_id: string
  client_msg_id?: string
  from?: number
  to?: number
  group_id?: number
  /** Unix seconds. */
  timestamp?: number
  /** Unix seconds. */
  edited_at?: number
  recalled?: boolean
}

export interface Sent {
  message_id: string
  conversation: string
  timestamp: number
  /** A rule has replaced the content; the push has what was accepted. */
  replaced?: boolean
}

export interface Page {
  conversation: string
  messages: StoredMessage[]
  more: boolean
}

export interface Settings {
  /** Unix seconds. */
  muted_until?: number
  pinned?: boolean
  hidden?: boolean
}

/** A conversation in a user's list. */
export interface Head extends Settings {
  conversation: string
  last?: StoredMessage
  /** Counted up to 999. */
  unread: number
  read_seq: number
}

export interface Heads {
  conversations: Head[]
  more: boolean
  next?: string
}

export type Role = 'owner' | 'admin' | 'member'

export interface Group {
  group_id: number
  name: string
  owner: number
  members: number[]
  /** 'open': anybody may join. */
  join?: string
  /** Without the owner. */
  admins?: number[]
  /** Until when members are muted, by user, in Unix seconds. */
  muted?: Record<string, number>
  /** Until when all but the owner and the admins are, in Unix seconds. */
  muted_until?: number
  [more: string]: unknown
}

export interface Reader {
  user: number
  seq: number
}

export type Cursor = Record<string, number>

export interface Connected {
  user: number
  session: string
  cursor: Cursor
  recovered: boolean
  complete: boolean
  ping_seconds: number
}

type Ok = Record<string, never>
type Named = { client_msg_id?: string }

/** For each verb the members of its request and the result. */
export interface Verbs {
  connect: [{ token: string; device?: string; cursor?: Cursor }, Connected]
  refresh: [{ token: string }, Ok]
  ping: [Ok, Ok]
  send: [Target & NewMessage & Named, Sent]
  edit: [{ conversation: string; message_id: string; content: string; extra?: Record<string, unknown> } & Named, Ok]
  recall: [{ conversation: string; message_id: string }, Ok]
  read: [{ conversation: string; seq: number }, Ok]
  settings: [{ conversation: string } & Settings, Ok]
  history: [{ conversation: string; before_seq?: number; after_seq?: number; limit?: number }, Page]
  conversations: [{ limit?: number; next?: string }, Heads]
  readers: [{ conversation: string; seq: number }, { readers: Reader[] }]
  typing: [Target, Ok]
  presence: [{ users: number[] }, { online: number[]; last_seen?: Record<string, number> }]
  group_create: [{ name: string; members?: number[]; join?: 'open' } & Named, Group]
  group_info: [{ group_id: number }, Group]
  group_join: [{ group_id: number } & Named, Group | Ok]
  group_leave: [{ group_id: number } & Named, Ok]
  group_add: [{ group_id: number; user: number } & Named, Group | Ok]
  group_remove: [{ group_id: number; user: number } & Named, Group | Ok]
  group_rename: [{ group_id: number; name: string } & Named, Group | Ok]
  group_dissolve: [{ group_id: number }, Ok]
  group_role: [{ group_id: number; user: number; role: Role } & Named, Group | Ok]
  group_mute: [{ group_id: number; user?: number; until: number } & Named, Group | Ok]
  block: [{ user: number }, Ok]
  unblock: [{ user: number }, Ok]
  blocked: [Ok, { users: number[] }]
  push_subscribe: [{ endpoint: string; keys: { p256dh: string; auth: string } }, Ok]
  push_unsubscribe: [{ endpoint: string }, Ok]
}

export type Verb = keyof Verbs

interface Positioned {
  /** "partition:seq", the position of the event itself. */
  pos?: string
}

/** A change of a group. */
interface GroupPush extends Positioned {
  group_id: number
  user: number
  by: number
}

/** What the server pushes, by type. */
export interface Pushes {
  new_message: Positioned & {
    conversation: string
    seq: number
    message: Omit<StoredMessage, 'seq' | 'edited_at'>
  }
  message_edited: Positioned & {
    conversation: string
    seq: number
    message_id: string
    content: string
    extra?: Record<string, unknown>
  }
  message_recalled: Positioned & { conversation: string; seq: number; message_id: string }
  message_moderated: { conversation: string; seq: number; message_id: string; reason: string }
  message_read: { conversation: string; user: number; seq: number }
  group_created: GroupPush
  member_joined: GroupPush
  member_left: GroupPush
  group_dissolved: GroupPush
  group_renamed: Positioned & { group_id: number; by: number; name: string }
  member_role: GroupPush & { role: Role }
  member_muted: Positioned & { group_id: number; user?: number; by: number; until: number }
  settings_changed: { conversation: string } & Settings
  typing: { from: number } & Target
  user_online: { user: number }
  user_offline: { user: number }
  system_notice: { notice_id?: string; content: string; extra?: Record<string, unknown> }
  complete: { cursor: Cursor }
}

export type PushType = keyof Pushes

/** A push of any type. */
export type Push = { [T in PushType]: { type: T } & Pushes[T] }[PushType]

export type ErrorCode =
  | 'unauthenticated'
  | 'invalid_argument'
  | 'permission_denied'
  | 'not_found'
  | 'too_large'
  | 'rate_limited'
  | 'unavailable'
  | 'rejected'
  | 'internal'
  /** Not the server's: the client was closed, or the request was given up. */
  | 'closed'
