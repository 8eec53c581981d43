// The page on which nobody is signed in yet.
import { field, h } from "./dom.js";
import { avatar, examples } from "./people.js";
import { userOf } from "./session.js";

// welcome calls enter with the session of whom the user wants to be. Where the server issues tokens, that may be anybody.
export function welcome(place, anybody, enter) {
  place.replaceChildren(h("main", { class: "welcome" },
    h("div", { class: "card" },
      h("h1", {}, "Millrace chat"),
      ...(anybody ? pick(enter) : paste(enter)))));
}

function pick(enter) {
  const id = h("input", { name: "user", inputmode: "numeric", pattern: "[1-9][0-9]{0,15}", autocomplete: "off", required: true, placeholder: "1005" });
  return [
    h("p", {}, "Who are you? Open this page once more, in another window, to be somebody else there."),
    h("ul", { class: "people" }, [...examples].map(([user, name]) =>
      h("li", {}, h("button", { type: "button", class: "person", onclick: () => enter({ user }) },
        avatar(user, name), h("span", { class: "name" }, name), h("span", { class: "soft" }, String(user)))))),
    h("form", { class: "row", onsubmit: (e) => { e.preventDefault(); enter({ user: Number(id.value) }); } },
      field("Or a user by number", id), h("button", { class: "strong" }, "Enter")),
  ];
}

function paste(enter) {
  const token = h("textarea", { name: "token", rows: 4, autocomplete: "off", spellcheck: "false", required: true });
  const wrong = h("p", { class: "bad", role: "alert" });
  return [
    h("p", {}, "This server gives tokens to nobody. Paste yours: it is kept until this tab is closed."),
    h("form", { class: "column", onsubmit: (e) => {
      e.preventDefault();
      const user = userOf(token.value.trim());
      if (user) enter({ user, token: token.value.trim() });
      else wrong.textContent = "This is no token of a user.";
    } }, field("Token", token), wrong, h("button", { class: "strong" }, "Enter")),
  ];
}
