// What a message replies to.
import { h } from "./dom.js";
import { nameOf } from "./people.js";

const kinds = { 2: "Image", 3: "File", 4: "Audio", 5: "Video", 6: "Location" };

export const kindOf = (message) => kinds[message.message_type];

// textOf returns what is to be read of a message.
export function textOf(message) {
  if (message.moderated) return `Removed by moderation: ${message.moderated}`;
  return message.recalled ? "Message recalled" : message.content ?? "";
}

// summary returns who wrote a message, and how it begins.
export const summary = (app, message) => [
  message.from && h("span", { class: "author" }, message.from === app.me ? "You" : nameOf(message.from)),
  h("span", { class: "preview" }, [kindOf(message), textOf(message).slice(0, 200)].filter(Boolean).join(": ")),
];

// quote returns a button that shows the original, which is undefined as long as it is not loaded, and goes there.
export const quote = (app, original, jump) =>
  h("button", { type: "button", class: "quote", "data-part": "quote", title: "Go to the original", onclick: jump },
    h("span", { class: "hidden" }, "In reply to "),
    ...(original ? summary(app, original) : [h("span", { class: "preview" }, "An earlier message")]));
