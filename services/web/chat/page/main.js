// The chat page: who is signed in, and which conversation is open, which the address names after the "#".
import { Client } from "/sdk/millrace.js";
import { h } from "./dom.js";
import { conversation } from "./conversation.js";
import { Groups } from "./groups.js";
import { notices } from "./notices.js";
import { useExamples } from "./people.js";
import { issues, signedIn, signIn, signOut, tokenOf } from "./session.js";
import { sidebar } from "./sidebar.js";
import { Mentions } from "./unread.js";
import { welcome } from "./welcome.js";

const page = document.getElementById("page");
const news = document.getElementById("news");

// say tells the user what has happened, in passing.
let hush;
function say(text) {
  clearTimeout(hush);
  news.textContent = text;
  hush = setTimeout(() => { news.textContent = ""; }, 6000);
}

function chat(session) {
  const client = new Client({ user: session.user, token: tokenOf(session) });
  const app = {
    client,
    me: session.user,
    groups: new Groups(client),
    mentions: new Mentions(client),
    say,
    // attempt runs what the server may refuse, and says so if it does.
    attempt: async (work) => {
      try {
        return await work();
      } catch (fault) {
        say(fault.message);
        return undefined;
      }
    },
    open: (name) => { location.hash = name; },
    current: () => decodeURIComponent(location.hash.slice(1)),
    signOut: () => {
      client.close();
      signOut();
      location.hash = "";
      location.reload();
    },
  };
  const side = h("section", { class: "side", tabindex: "-1", "aria-label": "Conversations" });
  const main = h("section", { class: "main", tabindex: "-1", "aria-label": "Conversation" });
  page.replaceChildren(h("main", { class: "frame" }, side, main));
  notices(document.getElementById("notices"), client);
  const list = sidebar(side, app);

  let leave = () => {};
  function show() {
    leave();
    const name = app.current();
    const opens = /^(u:\d+:\d+|g:\d+)$/.test(name);
    page.firstChild.classList.toggle("open", opens);
    if (opens) leave = conversation(main, app, name);
    else {
      leave = () => {};
      main.replaceChildren(h("div", { class: "empty" }, h("h2", {}, "No conversation is open"),
        h("p", { class: "soft" }, "Choose one from the list, or begin another.")));
    }
    list();
  }
  addEventListener("hashchange", () => {
    show();
    // Where one part takes the place of the other, what had the focus is gone.
    if (document.activeElement === document.body) (app.current() ? main : side).focus();
  });
  show();
}

const session = signedIn();
const anybody = session ? !session.token : await issues();
if (anybody) useExamples();
if (session) chat(session);
else welcome(page, anybody, (chosen) => { signIn(chosen); chat(chosen); });
