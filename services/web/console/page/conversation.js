// One conversation, as one of its users sees it, and as the log and the store have it.
import { get } from "./api.js";
import { clock, count, field, h, table } from "./dom.js";
import { tell } from "./main.js";

const page = 50;
const named = 200; // members

export function conversation(place, signal) {
  const name = h("input", { name: "conversation", required: true, placeholder: "u:1001:1002 or g:77" });
  const user = h("input", { name: "user", required: true, inputmode: "numeric" });
  const found = h("div");
  let contents = false;

  async function load(before) {
    const path = `/v1/conversations/${encodeURIComponent(name.value)}`;
    const { messages = [], more } = await get(path + "/messages", { user: user.value, limit: page, before_seq: before ?? "" }, signal);
    const [at, whose] = await Promise.all([get(path + "/log", { seqs: messages.map((m) => m.seq) }, signal), members(name.value, signal)]);
    const origins = new Map((at.origins ?? []).map((o) => [o.seq, o]));
    const parts = [
      h("p", {}, whose),
      h("p", { class: at.lag && "bad" }, `Partition ${at.partition ?? 0}: stored up to ${at.stored ?? 0} of ${at.end ?? 0}` +
        (at.lag ? `, ${count(at.lag)} records behind` : ", all of it")),
      table("Messages, the latest last", ["#seq", "From", "Time", "Id", "Correlation id", "Trace id", "Content"], messages.map((m) => [
        m.seq, m.from ?? "", clock(m.timestamp), m.message_id, ...origin(origins.get(m.seq)),
        m.recalled ? "recalled" : contents ? m.content ?? "" : `${(m.content ?? "").length} characters`])),
    ];
    if (more) parts.push(h("button", { onclick: () => attempt(messages[0].seq) }, "Older ones"));
    if (!contents) parts.push(" ", h("button", { onclick: () => { contents = true; attempt(before); } }, "Show contents"));
    found.replaceChildren(...parts);
  }
  const attempt = (before) => load(before).then(() => tell(""), (fault) => { found.replaceChildren(); tell(fault.message, true); });
  place.append(
    h("form", { class: "filter", onsubmit: (e) => { e.preventDefault(); contents = false; attempt(); } },
      field("Conversation", name), field("As user", user), h("button", {}, "Look")),
    found);
}

// origin returns what the log says of a message, if it still has it.
const origin = (o) => (o ? [o.correlation_id ?? "–", o.trace_id ?? "–"] : ["not in the log", ""]);

// members returns who is in the conversation.
async function members(name, signal) {
  const group = /^g:(\d+)$/.exec(name);
  if (!group) return "Members: " + name.split(":").slice(1).join(", ");
  const { group: g } = await get("/v1/groups/" + group[1], {}, signal);
  const all = g.members ?? [];
  const admins = new Set(g.admins ?? []);
  const listed = all.slice(0, named).map((m) => m + (m === g.owner ? " (owner)" : admins.has(m) ? " (admin)" : ""));
  return `${g.name}: ${count(all.length)} members: ${listed.join(", ")}${all.length > named ? " and others" : ""}`;
}
