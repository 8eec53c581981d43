// Icons are drawn in lines of the text's colour. Assistive technology does not see them: what they stand for is said in words.
import { h } from "./dom.js";

const paths = {
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20l1-4L16 5l3 3L8 19z",
  group: "M9 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM3 19c0-3 3-5 6-5s6 2 6 5M16 5.5a3 3 0 0 1 0 5.5M18 14.5c2 .7 3 2.300 3 4.500",
  leave: "M10 5H5v14h5M14 8l4 4-4 4M18 12H9",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  muted: "M7 17v-6a5 5 0 0 1 8.500-3.500M17 11v6H5M10.500 20.500h3M4 4l16 16",
  offline: "M4 4l16 16M8.500 15.500a5 5 0 0 1 7 0M5 12a10 10 0 0 1 4-2.400M19 12a10 10 0 0 0-5-2.700M12 19h.01",
  online: "M8.500 15.500a5 5 0 0 1 7 0M5 12a10 10 0 0 1 14 0M12 19h.01",
  pending: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 7v5l3 2",
  pinned: "M9 4h6l-1 6 3 4H7l3-4zM12 14v6",
  plus: "M12 5v14M5 12h14",
  read: "M2 13l4 4L15 8M11 16l1 1 9-9",
  send: "M5 12l15-7-5 15-3-6z",
  sent: "M5 13l4 4L19 8",
  settings: "M4 7h10M18 7h2M16 5v4M4 17h2M10 17h10M8 15v4",
};

export const icon = (name) =>
  h("svg", { class: "icon icon-" + name, viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, h("path", { d: paths[name] }));

// iconButton returns a button that shows an icon and is called by the label.
export const iconButton = (name, label, properties) =>
  h("button", { type: "button", class: "plain", "aria-label": label, title: label, ...properties }, icon(name));
