// What the system does: records accepted and handled a second, and how far each handler is behind, over the last ten minutes, and by
// partition for those handlers that somebody unfolds.
import { get } from "./api.js";
import { clock, count, fill, h, table } from "./dom.js";
import { tell } from "./main.js";

const span = 10 * 60 * 1000;

// The samples outlive the view, so that who comes back to it sees what was measured meanwhile.
const samples = []; // {at, handlers}
const unfolded = new Set(); // names of handlers

export function pipeline(place, signal) {
  const charts = h("div", { class: "charts" });
  const list = h("div");
  place.append(charts, list);
  const refresh = async () => {
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
    const parts = await Promise.all(handlers.filter((x) => unfolded.has(x.name)).map((x) => partitions(x.name, signal)));
    fill(list, listed(handlers, (name) => {
      if (!unfolded.delete(name)) unfolded.add(name);
      refresh().catch((fault) => tell(fault.message, true));
    }), ...parts);
  };
  return refresh;
}

// partitions returns a table of where the handler is, the partitions first that it is behind in.
async function partitions(name, signal) {
  const { partitions: all } = await get(`/v1/handlers/${encodeURIComponent(name)}/partitions`, {}, signal).catch((fault) => {
    if (fault.status !== 404) throw fault;
    return { partitions: [] }; // it never ran
  });
  all.sort((a, b) => Number(b.lag ?? 0) - Number(a.lag ?? 0));
  return table(`${name} by partition`, ["#Partition", "#Behind", "#Seconds behind", "#Handled up to", "#Ends at"],
    all.map((p) => [count(p.partition), count(p.lag), known(p.lag_seconds), p.handled ?? "0", p.end ?? "0"]));
}

// listed returns a table of the handlers, and each one's consumer group, or a button that calls unfold with its name if that is given.
// What a handler has retried is known only where the process that was asked runs it.
export const listed = (handlers, unfold) => table("Handlers, with success and retries of the last ten minutes",
  ["Handler", "State", "#Processes", "#Behind", "#Seconds behind", "#Success", "#Retries", "#Poisoned", "Oldest poisoned", "Topic", unfold ? "By partition" : "Group"],
  handlers.map((x) => [x.name, x.state, count(x.members), known(x.lag), known(x.lag_seconds), success(x.name), known(grown(x.name, "retries")),
    count(x.poisoned), clock(x.oldest_poisoned), x.topic, !unfold ? x.group : x.state === "never ran" ? "" : unfolding(x.name, unfold)]));

function unfolding(name, unfold) {
  const text = unfolded.has(name) ? "Hide" : "Show";
  return h("button", { "data-key": "unfold " + name, "aria-label": `${text} ${name} by partition`, onclick: () => unfold(name) }, text);
}

// grown returns by how much a figure of the handler has grown in the samples, or undefined if that is not known.
function grown(name, figure) {
  const all = samples.map((s) => s.handlers.get(name)).filter((x) => x?.[figure] !== undefined || x && figure !== "retries");
  if (all.length < 2) return undefined;
  return Math.max(0, Number(all.at(-1)[figure] ?? 0) - Number(all[0][figure] ?? 0));
}

// success returns the part of the records that were handled in the samples and not poisoned, or "–" if there were none.
function success(name) {
  const handled = grown(name, "handled");
  if (!handled) return "–";
  return (100 * Math.max(0, 1 - grown(name, "failed") / handled)).toFixed(handled > 999 ? 2 : 1) + " %";
}

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
