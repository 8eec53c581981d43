import type { Target } from './protocol.js'

/** Returns the name of the conversation of two users. */
export function directName(a: number, b: number): string {
  return `u:${Math.min(a, b)}:${Math.max(a, b)}`
}

export function groupName(group_id: number): string {
  return `g:${group_id}`
}

/** Returns where a user's messages for the conversation go. */
export function targetOf(conversation: string, user: number): Target {
  const [kind, ...ids] = conversation.split(':')
  const [low, high] = ids.map(Number) as [number, number]
  return kind === 'g' ? { group_id: low } : { to: low === user ? high : low }
}
