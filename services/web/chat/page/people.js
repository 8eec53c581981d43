// Who is who. Millrace knows users by number alone: an application has their names. Here some have one where anybody may be
// anybody, in a Millrace that is tried out.
import { h } from "./dom.js";

export const examples = new Map([[1001, "Alice"], [1002, "Bob"], [1003, "Carol"], [1004, "Dan"]]);

let names = new Map();

export const useExamples = () => { names = examples; };

export const nameOf = (user) => names.get(user) ?? `User ${user}`;

export const known = () => [...names.keys()];

const hues = 8;

// avatar returns a disc with the beginning of a name, in a colour that belongs to the id.
export const avatar = (id, name, presence) =>
  h("span", { class: `avatar hue-${id % hues}`, "aria-hidden": "true" },
    [...name.replace(/^User /, "")].slice(0, 1).join("").toUpperCase(), presence && h("span", { class: "presence" }));

// list joins names as English does.
export const list = (users) => new Intl.ListFormat("en", { type: "conjunction" }).format(users.map(nameOf));

// parseUsers reads the ids that somebody wrote with commas or spaces between.
export const parseUsers = (text) => (text.match(/\d+/g) ?? []).map(Number).filter((id) => id > 0 && Number.isSafeInteger(id));
