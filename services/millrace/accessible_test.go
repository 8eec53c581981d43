package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// axeCore is where task axe puts the library that finds what keeps people from using a page.
const axeCore = "../../.cache/axe/node_modules/axe-core/axe.min.js"

// violations returns what the page violates of WCAG 2.2 on the levels A and AA and of axe-core's best practices, and the texts
// whose contrast axe-core cannot find out, unless something else covers them.
const violations = `(async () => {
	const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
	const covered = ["bgOverlap", "elmPartiallyObscured", "elmPartiallyObscuring"];
	const { violations, incomplete } = await axe.run({ runOnly: tags, resultTypes: ["violations", "incomplete"] });
	const unclear = incomplete.filter(({ id }) => id === "color-contrast")
		.map((it) => ({ ...it, nodes: it.nodes.filter(({ any }) => !covered.includes(any[0]?.data?.messageKey)) }));
	return [...violations, ...unclear].flatMap(({ id, nodes }) => nodes.map((it) => id + ": " + it.html.slice(0, 200) + " " + it.failureSummary));
})()`

// judge checks what people see who open a page on a phone or a computer, in light or dark colours.
type judge struct {
	*tab
	axe string
}

// judged opens a page to be judged.
func judged(t *testing.T, url string) *judge {
	t.Helper()
	text, err := os.ReadFile(axeCore)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no axe-core: go tool -modfile=.tools/task.mod task axe")
	}
	require.NoError(t, err)
	return &judge{browse(t, url), string(text)}
}

// requireAccessible checks what the page shows now. It may be loaded again later.
func (j *judge) requireAccessible(view string) {
	j.t.Helper()
	for _, as := range []struct {
		width, height int64
		scheme        string
	}{{390, 780, "light"}, {1280, 720, "dark"}} {
		j.look(as.width, as.height, as.scheme)
		found, err := chromedp.Run(j.ctx, chromedp.Evaluate[[]string](j.axe+";"+violations, chromedp.EvalAwaitPromise))
		require.NoError(j.t, err)
		require.Empty(j.t, found, "%s, %d pixels wide, %s", view, as.width, as.scheme)
	}
}

func TestInABrowserTheChatPageIsAccessible(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir())
	user := proof.Join(t, d.url(), proof.Bob, nil)
	first := user.Sends(t, client.ToUser(proof.Alice), "Hello")
	_, err := user.Send(t.Context(), client.Send{
		Target: client.ToUser(proof.Alice), Content: "Are you there, @Alice?", ReplyTo: first.MessageID, Mentions: []int64{proof.Alice},
	})
	require.NoError(t, err)
	group, err := user.Group(t.Context(), client.GroupCreate{Name: "Friends", Members: []int64{proof.Alice}})
	require.NoError(t, err)

	page := judged(t, "http://"+d.gateway.Addr()+"/chat/")
	page.shows("Who are you?")
	page.requireAccessible("welcome")
	page.be("Alice")
	page.shows("Friends")
	page.until(`document.querySelector(".count")?.innerText.startsWith("@ 2")`)
	page.requireAccessible("list")
	page.press("Go offline")
	page.shows("is sent once you are online")
	page.requireAccessible("offline")
	page.press("Go online")
	page.label("New group")
	page.shows("Members by number")
	page.requireAccessible("a new group")
	page.label("Close")

	page.goTo(events.Direct(proof.Alice, proof.Bob))
	page.until(`document.querySelector(".called .quote mark, .called mark") !== null`)
	page.says("Good morning")
	page.actions("Good morning")
	page.requireAccessible("a conversation")
	page.press("Edit")
	page.shows("Editing a message")
	page.requireAccessible("editing")
	page.act("Hello", "Reply")
	page.types("@")
	page.shows("to choose from")
	page.requireAccessible("replying to somebody and mentioning somebody")
	page.label("Settings")
	page.shows("Keep it at the top")
	page.requireAccessible("settings")
	page.label("Close")
	page.says(strings.Repeat("x", 40_000))
	page.shows("Retry")
	page.requireAccessible("a refused message")
	page.until(`document.querySelector("[role=log]").closest("[aria-live=off]") === null`)

	page.goTo(events.Group(group.GroupID))
	page.shows("Say hello")
	page.requireAccessible("an empty conversation")
	page.label("Members")
	page.shows("owner")
	page.requireAccessible("members")
	page.label("Close")
	_, err = run(t, "notice", "--message-addrs="+d.grpc.Addr(), "--users="+fmt.Sprint(proof.Alice), "--content=The server is going to rest")
	require.NoError(t, err)
	page.shows("going to rest")
	page.requireAccessible("a notice")
}

func TestInABrowserTheConsoleIsAccessible(t *testing.T) {
	t.Parallel()
	var set atomic.Bool
	set.Store(true)
	d := startDevAs(t, t.TempDir(), nil, trapped(&set))
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	user := proof.Join(t, d.url(), proof.Alice, nil)
	sent := user.Sends(t, client.ToUser(proof.Bob), "Hello")
	user.Sends(t, client.ToUser(proof.Bob), trap)
	device, err := client.Dial(t.Context(), client.Config{URL: d.url(), Token: proof.Token(proof.Bob), Device: "phone"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = device.Close() })

	page := judged(t, "http://"+d.api.listener.Addr().String()+"/console/")
	page.until(`document.querySelectorAll("polyline").length > 1`)
	page.label("Show storage by partition")
	page.label("Hide storage by partition")
	page.label("Show storage by partition")
	page.requireAccessible("pipeline")
	page.press("Handlers and rules")
	page.shows("has no rules")
	page.requireAccessible("handlers and rules")
	page.press("Connections")
	page.shows("Disconnect")
	page.requireAccessible("connections")

	// What is refreshed keeps the focus and stays scrolled.
	page.look(200, 780, "light")
	page.until(`((it) => {
		if (!it) return false;
		it.focus();
		window.was = it;
		it.closest(".scroll").scrollLeft = 40;
		return it.closest(".scroll").scrollLeft === 40;
	})(document.querySelector("td button"))`)
	page.until(`!window.was.isConnected && document.activeElement.innerText === "Disconnect" && document.activeElement.closest(".scroll").scrollLeft === 40`)

	page.press("Conversation")
	page.fill("conversation", sent.Conversation)
	page.fill("user", "1001")
	page.press("Look")
	page.press("Show contents")
	page.shows("Hello")
	page.requireAccessible("a conversation")
	page.press("Live tail")
	page.press("Follow")
	page.shows("the tail has begun")
	user.Sends(t, client.ToUser(proof.Bob), "Hello again")
	page.shows("new_message")
	page.requireAccessible("live tail")
	page.press("Poison queue")
	page.shows("trapped")
	page.requireAccessible("poison queue")
	page.fill("handler", "storage")
	page.press("Discard…")
	page.shows("Discard 1 records?")
	page.requireAccessible("what is to be discarded")
	page.press("Cancel")
	page.press("Look")
	page.press("Show headers and content")
	page.shows(`"content":"trap"`)
	page.requireAccessible("a poisoned record")
	page.press("Close")
	page.until(`(document.getElementById("key").showModal(), true)`)
	page.requireAccessible("the question for a key")
}
