// Times as people say them.

const days = (a, b) => Math.round((new Date(a).setHours(0, 0, 0, 0) - new Date(b).setHours(0, 0, 0, 0)) / 86_400_000);

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

export function day(seconds) {
  const ago = days(Date.now(), seconds * 1000);
  if (ago === 0) return "Today";
  if (ago === 1) return "Yesterday";
  return new Date(seconds * 1000).toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
}

// brief returns the time of today, and else the day.
export function brief(seconds) {
  const ago = days(Date.now(), seconds * 1000);
  return ago === 0 ? clock(seconds) : new Date(seconds * 1000).toLocaleDateString([], ago < 7 ? { weekday: "short" } : { day: "numeric", month: "short" });
}
