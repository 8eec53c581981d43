// What the handlers do, and the rules that decide about messages before.
import { get } from "./api.js";
import { clock, count, fill, h, table } from "./dom.js";
import { listed } from "./pipeline.js";

export function rules(place, signal) {
  const handlers = h("div");
  const found = h("div");
  place.append(handlers, found);
  return async () => {
    const [all, decided] = await Promise.all([get("/v1/handlers", {}, signal), get("/v1/rules", {}, signal)]);
    fill(handlers, listed(all.handlers ?? []));
    if (!decided.file) {
      found.replaceChildren(h("p", {}, "The node that serves this console has no rules."));
      return;
    }
    fill(found,
      h("p", { class: decided.fault && "bad" }, decided.fault ? `The former rules hold, because of a fault: ${decided.fault}` : `Taken from ${decided.file}`,
        `, loaded ${clock(decided.loaded)}`),
      table("Rules, with what this node has counted since it was started", ["Rule", "When", "Action", "#Matched", "#Could not be evaluated"],
        (decided.rules ?? []).map((r) => [r.name, r.when, r.action, count(r.matched), count(r.failed)])));
  };
}
