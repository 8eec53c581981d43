// Where a message is written, and edited.
import { h } from "./dom.js";
import { icon, iconButton } from "./icons.js";

// What is being written stays while another conversation is open.
const drafts = new Map();

export function composer(app, chat) {
  let editing; // the message that is edited
  const input = h("textarea", { name: "message", rows: 1, "aria-label": "Message", placeholder: "Message", enterkeyhint: "send", autocomplete: "off",
    oninput: () => {
      if (!editing) drafts.set(chat.name, input.value);
      fit();
      if (input.value) chat.typing();
    },
    onkeydown: (e) => {
      if (e.isComposing) return;
      if (e.key === "Enter" && !e.shiftKey) {
        e.preventDefault();
        node.requestSubmit();
      } else if (e.key === "Escape" && editing) stop();
      else if (e.key === "ArrowUp" && !input.value) editLast(e);
    } });
  const banner = h("div", { class: "editing", hidden: true }, h("span", {}, "Editing a message"),
    iconButton("close", "Stop editing", { onclick: () => stop() }));
  const node = h("form", { class: "composer", onsubmit: (e) => {
    e.preventDefault();
    submit();
  } }, banner, input, h("button", { class: "strong round", "aria-label": "Send", title: "Send" }, icon("send")));

  function submit() {
    const text = input.value.trim();
    if (!text) return;
    if (editing) {
      const { message_id, content } = editing;
      stop();
      if (text !== content) app.attempt(() => chat.edit(message_id, text));
      return;
    }
    chat.send(text);
    drafts.delete(chat.name);
    put("");
  }

  function put(text) {
    input.value = text;
    fit();
    input.focus();
  }

  // fit makes the field as high as its text.
  function fit() {
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight + 2}px`;
  }

  function edit(message) {
    editing = message;
    banner.hidden = false;
    put(message.content ?? "");
  }

  function stop() {
    editing = undefined;
    banner.hidden = true;
    put(drafts.get(chat.name) ?? "");
  }

  function editLast(e) {
    const own = chat.getSnapshot().messages.findLast((m) => m.from === app.me && m.seq !== undefined && !m.recalled);
    if (!own) return;
    e.preventDefault();
    edit(own);
  }

  input.value = drafts.get(chat.name) ?? "";
  const focus = () => { if (matchMedia("(pointer: fine)").matches) input.focus(); };
  return { node, edit, focus };
}
