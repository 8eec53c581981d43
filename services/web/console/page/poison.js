// The poison queue: what could not be handled, why, and what to do about it.
import { get, post } from "./api.js";
import { clock, count, field, fill, h, table } from "./dom.js";
import { tell } from "./main.js";

// batch is how many records one request treats, so that progress shows.
const batch = 100;

export function poison(place, signal) {
  const topic = h("select", { name: "topic" }, ["message-events", "user-events", "group-events", "system-events"].map((t) => h("option", {}, t)));
  const handler = h("input", { name: "handler" });
  const reason = h("input", { name: "reason" });
  const since = h("input", { name: "since", type: "datetime-local" });
  const found = h("div");
  const done = h("p", { role: "status" });
  let selected = 0;

  const filter = () => ({ handler: handler.value, reason: reason.value, since: since.value ? Math.floor(new Date(since.value) / 1000) : 0 });
  const refresh = async () => {
    const f = filter();
    const { records = [], selected: n = 0 } = await get("/v1/poison", {
      topic: topic.value, limit: batch, "filter.handler": f.handler, "filter.reason": f.reason, "filter.since": f.since || "",
    }, signal);
    selected = n;
    fill(found, table(`${count(n)} selected${n > batch ? `, the latest ${batch} shown` : ""}`,
      ["Time", "Handler", "Reason", "Key", "Position", ""], records.map((r) => [
        clock(r.time), r.handler, r.reason, r.key, r.position, h("button", { "data-key": r.id, onclick: () => look(topic.value, r, run) }, "Look"),
      ])));
  };

  // run treats all that the filter selects, some at a time.
  async function run(action, what, body) {
    let total = 0;
    for (;;) {
      const result = await post("/v1/poison:" + action, { topic: topic.value, filter: what, limit: batch, ...body });
      const n = result.replayed ?? result.discarded ?? 0;
      total += n;
      const refused = Object.entries(result.refused ?? {}).map(([why, k]) => `${k} not: ${why}`);
      done.textContent = [`${action}: ${count(total)} done, ${count(result.remaining ?? 0)} to go`, ...refused].join("; ");
      if (body.dry_run || !result.remaining || n === 0) break;
    }
    await refresh();
  }
  const attempt = (action) => async () => {
    const f = filter();
    if (!f.handler && !f.reason && !f.since) {
      tell("select by a handler, a reason or a time first", true);
      return;
    }
    const why = action === "discard" ? prompt(`Discard ${selected} records. Why?`) : confirm(`Replay ${selected} records?`);
    if (!why) return;
    try {
      await run(action, f, action === "discard" ? { why } : {});
    } catch (fault) {
      tell(fault.message, true);
    }
  };
  place.append(
    h("form", { class: "filter", onsubmit: (e) => { e.preventDefault(); refresh().catch((fault) => tell(fault.message, true)); } },
      field("Topic", topic), field("Handler", handler), field("Reason has", reason), field("Since", since),
      h("button", {}, "Select"),
      h("button", { type: "button", onclick: attempt("replay") }, "Replay selected…"),
      h("button", { type: "button", onclick: attempt("discard") }, "Discard selected…")),
    done, found);
  return refresh;
}

// look shows one record. Its content is shown when asked for.
function look(topic, record, run) {
  const content = h("div", {}, h("button", { onclick: async () => {
    try {
      const whole = await get("/v1/poison/" + encodeURIComponent(record.id), { topic });
      content.replaceChildren(
        table("Headers", ["Name", "Value"], Object.entries(whole.headers ?? {}).sort()),
        h("h3", {}, whole.cut ? "The beginning of its value" : "Value"), h("pre", {}, whole.value ?? ""));
    } catch (fault) {
      content.replaceChildren(h("p", { class: "bad" }, fault.message));
    }
  } }, "Show headers and content"));
  const act = (action, body) => async () => {
    try {
      await run(action, { ids: [record.id] }, body());
      dialog.close();
    } catch (fault) {
      tell(fault.message, true);
    }
  };
  const why = h("input", { name: "why" });
  const dialog = h("dialog", { "aria-label": "A record of the poison queue", onclose: () => dialog.remove() },
    h("h2", {}, `${record.handler} could not handle ${record.position}`), h("p", {}, record.reason), content,
    h("p", {}, h("button", { onclick: act("replay", () => ({})) }, "Replay"), " ", field("Why discard it", why), " ",
      h("button", { onclick: act("discard", () => ({ why: why.value })) }, "Discard"), " ",
      h("button", { onclick: () => dialog.close() }, "Close")));
  document.body.append(dialog);
  dialog.showModal();
}
