// Having many records of the poison queue replayed or discarded, at a rate, with its progress.
import { post } from "./api.js";
import { count, h } from "./dom.js";

// batch is how many records one request treats at most.
const batch = 100;

// treat repeats the request, whose action is replay or discard, until nothing remains, nothing more can be done, or somebody stops it
// by the button in the place or by the signal.
export async function treat(place, action, request, rate, stop, stopped) {
  const pace = Math.min(1000, Math.max(1, rate || batch));
  const bar = h("progress", { max: 1, "aria-label": action });
  const text = h("span", {});
  place.replaceChildren(text);
  for (let total = 0; ;) {
    const began = Date.now();
    const result = await post("/v1/poison:" + action, { ...request, limit: Math.min(batch, pace) });
    const n = result.replayed ?? result.discarded ?? 0;
    const left = result.remaining ?? 0;
    total += n;
    const refused = Object.entries(result.refused ?? {}).map(([why, k]) => `${k} not: ${why}`);
    if (request.dry_run) {
      text.textContent = `dry run: it would try ${count(total + left)} records`;
      return;
    }
    text.textContent = [`${action}: ${count(total)} done, ${count(left)} to go`, ...refused].join("; ");
    if (!left || n === 0 || stopped.aborted) break;
    bar.max = total + left;
    bar.value = total;
    if (!bar.isConnected) place.append(" ", bar, " ", h("button", { onclick: () => stop.abort() }, "Stop"));
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, (n * 1000) / pace - (Date.now() - began))));
    if (stopped.aborted) break;
  }
  if (stopped.aborted) text.textContent += "; stopped";
  place.replaceChildren(text);
}
