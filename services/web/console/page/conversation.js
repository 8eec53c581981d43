// One conversation, as one of its users sees it.
import { get } from "./api.js";
import { clock, count, field, h, table } from "./dom.js";
import { tell } from "./main.js";

export function conversation(place, signal) {
  const name = h("input", { name: "conversation", required: true, placeholder: "u:1001:1002 or g:77" });
  const user = h("input", { name: "user", required: true, inputmode: "numeric" });
  const found = h("div");
  let contents = false;

  async function load(before) {
    const path = `/v1/conversations/${encodeURIComponent(name.value)}`;
    const page = await get(path + "/messages", { user: user.value, limit: 50, before_seq: before ?? "" }, signal);
    const messages = page.messages ?? [];
    const group = /^g:(\d+)$/.exec(name.value);
    const parts = [];
    if (group && !before) {
      const { group: g } = await get("/v1/groups/" + group[1], {}, signal);
      parts.push(h("p", {}, `${g.name}: owned by ${g.owner}, ${count(g.members?.length)} members`));
    }
    parts.push(table("Messages, the latest last", ["#seq", "From", "Time", "Id", "Content"], messages.map((m) => [
      m.seq, m.from ?? "", clock(m.timestamp), m.message_id, m.recalled ? "recalled" : contents ? m.content ?? "" : `${(m.content ?? "").length} characters`])));
    if (page.more) parts.push(h("button", { onclick: () => attempt(messages[0].seq) }, "Older ones"));
    if (!contents) parts.push(" ", h("button", { onclick: () => { contents = true; attempt(before); } }, "Show contents"));
    found.replaceChildren(...parts);
  }
  const attempt = (before) => load(before).then(() => tell(""), (fault) => { found.replaceChildren(); tell(fault.message, true); });
  place.append(
    h("form", { class: "filter", onsubmit: (e) => { e.preventDefault(); contents = false; attempt(); } },
      field("Conversation", name), field("As user", user), h("button", {}, "Look")),
    found);
}
