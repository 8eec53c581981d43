// The poison queue: what could not be handled, why, and what to do about it.
import { get } from "./api.js";
import { ask } from "./ask.js";
import { clock, count, field, fill, h, table } from "./dom.js";
import { tell } from "./main.js";
import { look } from "./record.js";
import { treat } from "./treat.js";

const shown = 100;

export function poison(place, signal) {
  const topic = h("select", { name: "topic" }, ["message-events", "user-events", "group-events", "system-events"].map((t) => h("option", {}, t)));
  const handler = h("input", { name: "handler" });
  const reason = h("input", { name: "reason" });
  const since = h("input", { name: "since", type: "datetime-local" });
  const until = h("input", { name: "until", type: "datetime-local" });
  const rate = h("input", { name: "rate", type: "number", min: 1, max: 1000, value: 100 });
  const found = h("div");
  const progress = h("div", { role: "status" });
  const ticked = new Set(); // ids
  let selected = 0;
  let treating;

  const seconds = (input) => (input.value ? Math.floor(new Date(input.value) / 1000) : 0);
  const filter = () => ({ handler: handler.value, reason: reason.value, since: seconds(since), until: seconds(until) });
  const refresh = async () => {
    const f = filter();
    const { records = [], selected: n = 0 } = await get("/v1/poison", {
      topic: topic.value, limit: shown, "filter.handler": f.handler, "filter.reason": f.reason, "filter.since": f.since || "", "filter.until": f.until || "",
    }, signal);
    selected = n;
    for (const id of ticked) if (!records.some((r) => r.id === id)) ticked.delete(id);
    fill(found, table(`${count(n)} selected${n > shown ? `, the latest ${shown} shown` : ""}`,
      ["Ticked", "Time", "Handler", "Reason", "Key", "Position", ""], records.map((r) => [tick(r.id), clock(r.time), r.handler, r.reason, r.key, r.position,
        h("button", { "data-key": "look " + r.id, onclick: () => look(topic.value, r, run) }, "Look")])));
  };
  const tick = (id) => h("input", {
    type: "checkbox", "aria-label": "Tick " + id, "data-key": "tick " + id, checked: ticked.has(id),
    onchange: (e) => (e.target.checked ? ticked.add(id) : ticked.delete(id)),
  });

  // run treats what the filter selects, some at a time, until all is done or somebody stops it.
  async function run(action, what, body) {
    treating?.abort();
    treating = new AbortController();
    const stopped = AbortSignal.any([treating.signal, signal]);
    await treat(progress, action, { topic: topic.value, filter: what, ...body }, Number(rate.value), treating, stopped);
    if (!body.dry_run) ticked.clear();
    await refresh();
  }

  // attempt does something with the ticked records, or if there are none with those that the filter selects.
  const attempt = (action, dry) => async () => {
    const f = ticked.size ? { ids: [...ticked] } : filter();
    if (!ticked.size && !f.handler && !f.reason && !f.since && !f.until) {
      tell("tick records, or select them by a handler, a reason or a time first", true);
      return;
    }
    try {
      const n = count(ticked.size || selected);
      const why = dry ? "" : await ask(`${action === "discard" ? "Discard" : "Replay"} ${n} records?`, action === "discard" ? "Discard them" : "Replay them", action === "discard");
      if (why !== null) await run(action, f, { dry_run: Boolean(dry), ...(why && { why }) });
    } catch (fault) {
      tell(fault.message, true);
    }
  };
  place.append(
    h("form", { class: "filter", onsubmit: (e) => { e.preventDefault(); refresh().catch((fault) => tell(fault.message, true)); } },
      field("Topic", topic), field("Handler", handler), field("Reason has", reason), field("Since", since), field("Until", until),
      h("button", {}, "Select")),
    h("form", { class: "filter", onsubmit: (e) => e.preventDefault() },
      field("Records a second", rate),
      h("button", { type: "button", onclick: attempt("replay", true) }, "Dry run"),
      h("button", { type: "button", onclick: attempt("replay") }, "Replay…"),
      h("button", { type: "button", onclick: attempt("discard") }, "Discard…")),
    progress, found);
  return refresh;
}
