// The dialog of what a user sets for a conversation, for itself alone.
import { dialog, form } from "./dialog.js";
import { field, h } from "./dom.js";
import { brief } from "./times.js";
import { titleOf } from "./title.js";

const hour = 3600;
const spans = [["For an hour", hour], ["For eight hours", 8 * hour], ["For a week", 7 * 24 * hour]];
const always = Date.UTC(9999, 0) / 1000;

const now = () => Math.floor(Date.now() / 1000);

export const isMuted = (head) => (head?.muted_until ?? 0) > now();

// mutedUntil says until when a conversation is muted.
const mutedUntil = (seconds) => (seconds >= always ? "Until I end it" : `Until ${brief(seconds)}`);

export const headOf = (app, name) => app.client.inbox.getSnapshot().conversations.find(({ conversation }) => conversation === name);

export function settings(app, name) {
  const head = headOf(app, name);
  const option = (value, words) => h("option", { value }, words);
  const muted = h("select", { name: "muted" },
    isMuted(head) && option(head.muted_until, mutedUntil(head.muted_until)),
    option(0, "No"),
    spans.map(([words, span]) => option(now() + span, words)),
    head?.muted_until !== always && option(always, mutedUntil(always)));
  const box = (words, key) => {
    const control = h("input", { type: "checkbox", name: key, checked: head?.[key] });
    return [control, h("label", { class: "box" }, control, words)];
  };
  const [pinned, pin] = box("Keep it at the top of the list", "pinned");
  const [hidden, hide] = box("Hide it until the next message", "hidden");
  const shown = dialog(`Settings: ${titleOf(app, name)}`, form("column", [
    field("Mute", muted), h("div", {}, pin, hide),
  ], "Save", async () => {
    await app.client.conversation(name).settings({ muted_until: Number(muted.value), pinned: pinned.checked, hidden: hidden.checked });
    shown.close();
  }));
}
