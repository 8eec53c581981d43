// Mentions in texts: "@" and the name or the number of a user.
import { nameOf } from "./people.js";

const escape = (text) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");

// split returns the text in parts, {text}, of which those that mention one of the users have {user} too.
export function split(text, users) {
  const called = new Map(users.flatMap((user) => [[nameOf(user).toLowerCase(), user], [String(user), user]]));
  if (called.size === 0) return [{ text }];
  const names = [...called.keys()].sort((a, b) => b.length - a.length).map(escape);
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(new RegExp(`(?<![\\p{L}\\p{N}])@(${names.join("|")})(?![\\p{L}\\p{N}])`, "giu"))) {
    parts.push({ text: text.slice(end, match.index) }, { text: match[0], user: called.get(match[1].toLowerCase()) });
    end = match.index + match[0].length;
  }
  return [...parts, { text: text.slice(end) }];
}

// most is how many users a message may mention.
const most = 50;

// mentioned returns which of the users the text mentions.
export const mentioned = (text, users) => [...new Set(split(text, users).map(({ user }) => user).filter(Boolean))].slice(0, most);
