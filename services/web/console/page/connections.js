// Who is connected, by gateway and device.
import { get, post } from "./api.js";
import { clock, count, field, fill, h, table } from "./dom.js";
import { tell } from "./main.js";

export function connections(place, signal) {
  const user = h("input", { name: "user", inputmode: "numeric" });
  const gateways = h("div");
  const sessions = h("div");

  const refresh = async () => {
    const { gateways: known = [], sessions: found = [], more } = await get("/v1/sessions", { user: user.value }, signal);
    fill(gateways, table("Gateways", ["Gateway", "#Users", "#Sessions"], known.map((g) => [
      g.name, count(g.users), g.silent ? "does not answer" : count(g.sessions)])));
    fill(sessions, table(`Sessions${user.value && " of user " + user.value}${more ? ", some of them" : ""}`,
      ["#User", "Device", "Gateway", "Since", "#Bytes queued", "Session", ""], found.map((s) => [
        s.user, s.device ?? "–", s.gateway, clock(s.since), count(s.queued_bytes), s.session,
        s.device ? h("button", { "data-key": s.session, onclick: () => disconnect(s.user, s.device) }, "Disconnect") : ""])));
  };

  // revoke ends the user's tokens, and with them its sessions.
  async function revoke(id) {
    if (!confirm(`End all tokens of user ${id} that were issued before now?`)) return;
    try {
      await post(`/v1/users/${encodeURIComponent(id)}/tokens:revoke`, {});
      await refresh();
      tell(`tokens of user ${id} revoked`);
    } catch (fault) {
      tell(fault.message, true);
    }
  }

  // disconnect closes the sessions of a device, or all of the user.
  async function disconnect(id, device) {
    if (!confirm(device ? `Disconnect ${device} of user ${id}?` : `Disconnect all devices of user ${id}?`)) return;
    try {
      const { closed = 0 } = await post(`/v1/users/${encodeURIComponent(id)}:disconnect`, { device });
      await refresh();
      tell(`${count(closed)} sessions closed`);
    } catch (fault) {
      tell(fault.message, true);
    }
  }
  place.append(
    h("form", { class: "filter", onsubmit: (e) => { e.preventDefault(); refresh().catch((fault) => tell(fault.message, true)); } },
      field("User", user), h("button", {}, "Select"),
      h("button", { type: "button", onclick: () => (user.value ? disconnect(user.value, "") : tell("name a user first", true)) }, "Disconnect user…"),
      h("button", { type: "button", onclick: () => (user.value ? revoke(user.value) : tell("name a user first", true)) }, "Revoke tokens…")),
    gateways, sessions);
  return refresh;
}
