// Who is connected, by gateway and device.
import { get } from "./api.js";
import { clock, count, field, h, table } from "./dom.js";
import { tell } from "./main.js";

export function connections(place, signal) {
  const user = h("input", { name: "user", inputmode: "numeric" });
  const gateways = h("div");
  const sessions = h("div");

  const refresh = async () => {
    const { gateways: known = [], sessions: found = [], more } = await get("/v1/sessions", { user: user.value }, signal);
    gateways.replaceChildren(table("Gateways", ["Gateway", "#Users", "#Sessions"], known.map((g) => [
      g.name, count(g.users), g.silent ? "does not answer" : count(g.sessions)])));
    sessions.replaceChildren(table(`Sessions${user.value && " of user " + user.value}${more ? ", some of them" : ""}`,
      ["#User", "Device", "Gateway", "Since", "#Bytes queued", "Session"], found.map((s) => [
        s.user, s.device ?? "–", s.gateway, clock(s.since), count(s.queued_bytes), s.session])));
  };
  place.append(
    h("form", { class: "filter", onsubmit: (e) => { e.preventDefault(); refresh().catch((fault) => tell(fault.message, true)); } },
      field("User", user), h("button", {}, "Select")),
    gateways, sessions);
  return refresh;
}
