// Who is signed in, in this tab: another tab may be somebody else.

const kept = "millrace.chat";

// signedIn returns {user} and, where the server issues none, the token; or null.
export const signedIn = () => JSON.parse(sessionStorage.getItem(kept) ?? "null");

export const signIn = (session) => sessionStorage.setItem(kept, JSON.stringify(session));

export const signOut = () => sessionStorage.removeItem(kept);

// issue asks the server for a token, which only one that is tried out gives to anybody.
async function issue(user) {
  const response = await fetch("/dev/token", { method: "POST", body: JSON.stringify({ user }) });
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  return (await response.json()).token;
}

// issues reports whether the server gives tokens to anybody. It says so by how it refuses to give one to nobody.
export async function issues() {
  const { status } = await fetch("/dev/token", { method: "POST", body: "{}" });
  return status === 400;
}

export const tokenOf = (session) => () => session.token ?? issue(session.user);

// userOf returns the user whose token it is, or undefined if it is none.
export function userOf(token) {
  try {
    const user = Number(JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).sub);
    return Number.isSafeInteger(user) && user > 0 ? user : undefined;
  } catch {
    return undefined;
  }
}
