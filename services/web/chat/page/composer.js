// Where a message is written, and edited.
import { completion } from "./completion.js";
import { h } from "./dom.js";
import { icon, iconButton } from "./icons.js";
import { mentioned } from "./mention.js";
import { summary } from "./quote.js";

// What is being written, {text, original}, stays while another conversation is open. original is what it replies to.
const drafts = new Map();

// composer returns the form for messages. people returns the users who can be mentioned.
export function composer(app, chat, people) {
  let editing; // the message that is edited
  let { text = "", original } = drafts.get(chat.name) ?? {};
  const input = h("textarea", { name: "message", rows: 1, "aria-label": "Message", "aria-describedby": "about", placeholder: "Message", enterkeyhint: "send", autocomplete: "off",
    oninput: () => {
      if (!editing) keep(input.value);
      fit();
      proposals.update();
      if (input.value) chat.typing();
    },
    onkeydown: (e) => {
      if (e.isComposing || proposals.key(e)) return;
      if (e.key === "Enter" && !e.shiftKey) {
        e.preventDefault();
        node.requestSubmit();
      } else if (e.key === "Escape" && (editing || original)) stop();
      else if (e.key === "ArrowUp" && !input.value) editLast(e);
    } });
  const proposals = completion(input, () => (editing ? [] : people())); // an edit cannot mention anybody
  const about = h("span", { id: "about" });
  const banner = h("div", { class: "about" }, about, iconButton("close", "Cancel", { onclick: () => stop() }));
  const node = h("form", { class: "composer", onsubmit: (e) => {
    e.preventDefault();
    submit();
  } }, proposals.nodes, banner, input, h("button", { class: "strong round", "aria-label": "Send", title: "Send" }, icon("send")));

  function keep(words) {
    text = words;
    drafts.set(chat.name, { text, original });
  }

  function submit() {
    const content = input.value.trim();
    if (!content) return;
    if (editing) {
      const { message_id, content: before } = editing;
      stop();
      if (content !== before) app.attempt(() => chat.edit(message_id, content));
      return;
    }
    const mentions = mentioned(content, people());
    chat.send({ content, ...(original && { reply_to: original.message_id }), ...(mentions.length > 0 && { mentions }) });
    original = undefined;
    keep("");
    put("");
    input.focus();
  }

  // put shows the words, and above them what they are about.
  function put(words) {
    banner.hidden = !editing && !original;
    about.replaceChildren(...(editing ? ["Editing a message"] : original ? ["Reply to ", ...summary(app, original)] : []));
    input.value = words;
    proposals.close();
    fit();
  }

  // fit makes the field as high as its text, as soon as it is on the page.
  function fit() {
    if (!input.isConnected) return void requestAnimationFrame(fit);
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight + 2}px`;
  }

  function edit(message) {
    editing = message;
    put(message.content ?? "");
    input.focus();
  }

  function reply(message) {
    editing = undefined;
    original = message;
    keep(text);
    put(text);
    input.focus();
  }

  // stop ends editing; what was being written before comes back. Otherwise it makes of a reply a message that is none.
  function stop() {
    if (editing) editing = undefined;
    else original = undefined;
    keep(text);
    put(text);
    input.focus();
  }

  function editLast(e) {
    const own = chat.getSnapshot().messages.findLast((m) => m.from === app.me && m.seq !== undefined && !m.recalled);
    if (!own) return;
    e.preventDefault();
    edit(own);
  }

  put(text);
  const focus = () => { if (matchMedia("(pointer: fine)").matches) input.focus(); };
  return { node, edit, reply, focus };
}
