// The messages are one stop of the Tab key, however many there are. From one to the next lead the arrow keys.

const steps = { ArrowUp: -1, ArrowDown: 1 };

// rove returns a function that is to be called when the messages in the list have changed.
export function rove(list) {
  let current;
  const all = () => [...list.querySelectorAll(".message")];

  // stop lets Tab come to the message, and to what can be pressed in it.
  function stop(at) {
    current = at;
    for (const item of all()) for (const it of [item, ...item.querySelectorAll(".act, .quote")]) it.tabIndex = item === at ? 0 : -1;
  }
  list.addEventListener("focusin", (e) => stop(e.target.closest(".message")));
  list.addEventListener("keydown", (e) => {
    const items = all();
    const next = e.key in steps && items[items.indexOf(current) + steps[e.key]];
    if (!next) return;
    e.preventDefault();
    next.focus();
  });
  return () => stop(current?.isConnected ? current : all().at(-1));
}
