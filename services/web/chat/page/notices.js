// Notices of the system, each once and until it is dismissed.
import { h } from "./dom.js";
import { iconButton } from "./icons.js";

export function notices(place, client) {
  const seen = new Set();
  client.on("system_notice", ({ notice_id, content }) => {
    if (notice_id && seen.has(notice_id)) return;
    seen.add(notice_id);
    const notice = h("div", { class: "notice", role: "alert" }, h("p", {}, h("strong", {}, "Notice "), content),
      iconButton("close", "Dismiss the notice", { onclick: () => notice.remove() }));
    place.append(notice);
  });
}
