// What the system does: records accepted and handled a second, and how far each handler is behind, over the last ten minutes.
import { get } from "./api.js";
import { count, fill, h, table } from "./dom.js";

const span = 10 * 60 * 1000;

// The samples outlive the view, so that who comes back to it sees what was measured meanwhile.
const samples = []; // {at, handlers}

export function pipeline(place, signal) {
  const charts = h("div", { class: "charts" });
  const list = h("div");
  place.append(charts, list);
  return async () => {
    const { handlers = [] } = await get("/v1/handlers", {}, signal);
    const at = Date.now();
    samples.push({ at, handlers: new Map(handlers.map((x) => [x.name, x])) });
    while (samples[0].at < at - span) samples.shift();
    const main = handlers.filter((x) => x.topic === "message-events" && x.state !== "never ran");
    charts.replaceChildren(
      chart("accepted a second", rates(main[0]?.name, "written")),
      ...main.flatMap(({ name }) => [
        chart(`${name}: handled a second`, rates(name, "handled")),
        chart(`${name}: records behind`, series(name, "lag")),
        chart(`${name}: seconds behind`, series(name, "lag_seconds")),
      ]),
    );
    fill(list, listed(handlers));
  };
}

// listed returns a table of the handlers.
export const listed = (handlers) => table("Handlers", ["Handler", "State", "#Processes", "#Behind", "#Seconds behind", "#Poisoned", "Topic", "Group"],
  handlers.map((x) => [x.name, x.state, count(x.members), known(x.lag), known(x.lag_seconds), count(x.poisoned), x.topic, x.group]));

const known = (n) => (n === undefined ? "–" : count(n));

// series returns [time, value] of a figure of the handler.
const series = (name, figure) => samples.filter((s) => s.handlers.has(name)).map((s) => [s.at, Number(s.handlers.get(name)[figure] ?? 0)]);

// rates returns by how much a figure grows in a second. Where it falls, because the topic was made anew, it has none.
function rates(name, figure) {
  const all = series(name, figure);
  return all.slice(1).map(([at, value], i) => [at, Math.max(0, (value - all[i][1]) * 1000 / (at - all[i][0]))]);
}

function chart(title, points) {
  const most = Math.max(1, ...points.map(([, v]) => v));
  const now = points.at(-1)?.[0] ?? 0;
  const line = points.map(([at, v]) => `${(100 * (1 - (now - at) / span)).toFixed(2)},${(40 - 38 * v / most).toFixed(2)}`).join(" ");
  const first = points.length ? (100 * (1 - (now - points[0][0]) / span)).toFixed(2) : 100;
  const latest = count(points.at(-1)?.[1]);
  return h("figure", {},
    h("figcaption", {}, title, h("strong", {}, latest)),
    h("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${latest} now, at most ${count(most)} in ten minutes` },
      h("polyline", { points: `${first},41 ${line} 100,41` })));
}
