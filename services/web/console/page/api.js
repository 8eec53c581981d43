// Calls to the API of this page's origin.

const stored = "millrace.key";

// Fault is an error that the API has returned.
export class Fault extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const headers = () => {
  const key = sessionStorage.getItem(stored);
  return key ? { Authorization: "Bearer " + key } : {};
};

async function request(method, path, body, signal) {
  const init = { method, headers: headers(), signal: signal ?? null, cache: "no-store" };
  if (body !== undefined) init.body = JSON.stringify(body);
  const response = await fetch(path, init);
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: { code: "internal", message: response.statusText } }));
  if (response.status === 401) askKey();
  throw new Fault(response.status, error.code, error.message);
}

// get asks with the parameters that have a value; a list is a parameter that comes several times.
export const get = async (path, parameters, signal) => {
  const query = new URLSearchParams(Object.entries(parameters ?? {}).filter(([, v]) => v !== "" && v != null)
    .flatMap(([name, v]) => [v].flat().map((one) => [name, one])));
  return (await request("GET", path + (query.size ? "?" + query : ""), undefined, signal)).json();
};

export const post = async (path, body) => (await request("POST", path, body)).json();

// events calls each with every event of the tail, until the signal aborts it or the connection ends.
export async function events(parameters, signal, each) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, v]) => v));
  const response = await request("GET", "/v1/events?" + query, undefined, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n");
      const kind = lines.find((l) => l.startsWith("event: "))?.slice(7) ?? "message";
      const data = lines.find((l) => l.startsWith("data: "))?.slice(6);
      if (data !== undefined) each(kind, JSON.parse(data));
    }
  }
}

// askKey lets the user give a key, which is forgotten when the tab is closed.
export function askKey() {
  const dialog = document.getElementById("key");
  if (dialog.open) return;
  dialog.onclose = () => {
    const input = document.getElementById("secret");
    sessionStorage.setItem(stored, input.value.trim());
    input.value = "";
  };
  dialog.showModal();
}
