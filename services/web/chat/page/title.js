// What a conversation's name stands for: u:LOW:HIGH for two users, g:ID for a group.
import { avatar, nameOf } from "./people.js";

const ids = (name) => name.split(":").slice(1).map(Number);

export const groupOf = (name) => (name.startsWith("g:") ? ids(name)[0] : undefined);

// peerOf returns the other user of a direct conversation; the user itself, if that talks to itself.
export function peerOf(name, me) {
  if (groupOf(name)) return undefined;
  const [low, high] = ids(name);
  return low === me ? high : low;
}

export function titleOf(app, name) {
  const group = groupOf(name);
  if (group) return app.groups.name(group);
  const peer = peerOf(name, app.me);
  return peer === app.me ? "Notes to yourself" : nameOf(peer);
}

export const avatarOf = (app, name) => avatar(groupOf(name) ?? peerOf(name, app.me), titleOf(app, name), !groupOf(name));
