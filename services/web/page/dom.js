// Elements are made here only, from text, so that nothing a user or a producer wrote becomes markup.

const drawn = new Set(["svg", "polyline", "path"]);

// h returns an element. A property that begins with "on" is a listener; false, null and undefined set nothing.
export function h(tag, properties, ...children) {
  const node = drawn.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === false || value == null) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((c) => c != null && c !== false));
  return node;
}

// fill replaces what is in the place. What has the focus, or is scrolled, stays so in the element of the same data-key.
export function fill(place, ...nodes) {
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const scrolled = new Map([...place.querySelectorAll("[data-key]")].map((it) => [it.dataset.key, it.scrollLeft]));
  place.replaceChildren(...nodes);
  for (const it of place.querySelectorAll("[data-key]")) {
    if (it.dataset.key === focused) it.focus({ preventScroll: true });
    it.scrollLeft = scrolled.get(it.dataset.key) ?? 0;
  }
}

// table returns a table with a caption. Columns whose name begins with "#" hold numbers, those without one what can be done.
export function table(caption, columns, rows) {
  const number = columns.map((c) => c.startsWith("#"));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption, "data-key": columns.join() }, h("table", {},
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, columns.map((c, i) => (c ? h("th", { scope: "col", class: number[i] && "number" }, c.replace(/^#/, "")) : h("td"))))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((c, i) => h("td", { class: number[i] && "number" }, c))))),
  ));
}

// field returns a labelled control.
export const field = (label, control) => h("label", {}, label, control);

export const clock = (seconds) => (Number(seconds) ? new Date(Number(seconds) * 1000).toLocaleString() : "–");

export const count = (n) => Math.round(Number(n ?? 0)).toLocaleString();
