// What keeps elements in place while what they show changes, so that focus and scrolling stay where they are.

// arrange makes the nodes the children of the place, and moves only those that are not where they belong.
export function arrange(place, nodes) {
  const kept = new Set(nodes);
  for (const child of [...place.childNodes]) if (!kept.has(child)) child.remove();
  let next = place.firstChild;
  for (const node of nodes) {
    if (node === next) next = next.nextSibling;
    else place.insertBefore(node, next);
  }
}

// keyed returns a function that returns the node of a key. The node is made once, and filled again when one of the values that it
// shows is another than before. The part of it that had the focus then gives it to the part of the same name, if there is one.
export function keyed(make, fill) {
  const kept = new Map();
  return (key, ...values) => {
    const it = kept.get(key) ?? { node: make(key) };
    kept.set(key, it);
    if (it.values?.every((value, i) => Object.is(value, values[i]))) return it.node;
    it.values = values;
    const part = it.node.contains(document.activeElement) && document.activeElement.dataset.part;
    fill(it.node, ...values);
    if (part) it.node.querySelector(`[data-part="${part}"]`)?.focus();
    return it.node;
  };
}
