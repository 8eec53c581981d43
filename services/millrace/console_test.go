package main

import (
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// What users wrote stays text in the console, and a record that was poisoned is replayed from it.
func TestInABrowserTheConsoleShowsThePipelineAndReplaysWhatWasPoisoned(t *testing.T) {
	t.Parallel()
	var set atomic.Bool
	set.Store(true)
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(rules, []byte(`rules: [{name: loud, when: content contains "img", tag: loud}]`), 0o600))
	d := startDevAs(t, t.TempDir(), []string{"--rules=" + rules}, trapped(&set))
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	page := browse(t, "http://"+d.api.listener.Addr().String()+"/console/")
	page.shows("storage: handled a second")
	page.label("Show storage by partition")
	page.until(`[...document.querySelectorAll("caption")].some((c) => c.innerText === "storage by partition" && c.parentElement.rows.length === 1 + %s)`, events.EmbeddedPartitions)
	page.until(`[...document.querySelectorAll("tr")].some((r) => r.innerText.startsWith("storage") && r.cells[6].innerText === "0")`)

	a := proof.Join(t, d.url(), proof.Alice, nil)
	const attack = `<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>`
	sent := a.Sends(t, client.ToUser(proof.Bob), attack)
	for range 4 {
		a.Sends(t, client.ToUser(proof.Bob), trap)
	}
	eventually(t, a, sent.Conversation, 1)

	page.press("Handlers and rules")
	page.shows("Taken from " + rules)
	page.until(`[...document.querySelectorAll("tr")].some((r) => r.innerText.startsWith("loud") && r.cells[3].innerText === "1")`)
	page.until(`[...document.querySelectorAll("tr")].some((r) => r.innerText.startsWith("storage") && /^\d+$/.test(r.cells[4].innerText))`)

	page.press("Connections")
	page.fill("user", "1001")
	page.press("Select")
	page.shows("Sessions of user 1001")
	page.until(`document.querySelector("main").innerText.includes(%s)`, d.gateway.Addr())

	page.press("Conversation")
	page.fill("conversation", sent.Conversation)
	page.fill("user", "1001")
	page.press("Look")
	page.shows(sent.MessageID)
	page.shows("Members: 1001, 1002")
	page.until(`/^Partition \d+: stored up to \d+ of \d+/m.test(document.querySelector("main").innerText)`)
	page.until(`document.querySelector("tbody tr").cells[4].innerText.length > 3`) // the id of the request
	page.press("Show contents")
	page.shows(attack)

	page.press("Poison queue")
	page.shows("4 selected")
	page.fill("until", "2020-01-01T00:00")
	page.press("Select")
	page.shows("0 selected")
	page.fill("until", "")
	page.press("Select")
	page.shows("4 selected")
	page.until(`((it) => it && (it.click(), true))(document.querySelector("tbody input[type=checkbox]"))`)
	page.press("Dry run")
	page.shows("it would try 1 records")
	page.press("Discard…")
	page.fill("why", "a test")
	page.press("Discard them")
	page.shows("discard: 1 done, 0 to go")
	page.shows("3 selected")
	page.shows("trapped")
	page.press("Look")
	page.press("Show headers and content")
	page.shows(`"content":"trap"`)
	set.Store(false)
	page.press("Replay")
	eventually(t, a, sent.Conversation, 2)
	page.shows("2 selected")
	page.press("Replay…")
	page.shows("tick records, or select them")
	page.fill("handler", "storage")
	page.fill("rate", "1")
	page.press("Replay…")
	page.press("Replay them")
	page.press("Stop")
	page.shows("stopped")
	page.shows("1 selected")
	page.fill("rate", "100")
	page.press("Replay…")
	page.press("Replay them")
	page.shows("0 selected")
	eventually(t, a, sent.Conversation, 4)

	page.until(`(window.whole = fetch, window.fetch = () => Promise.reject(new Error("the network is gone")), true)`)
	page.shows("cannot refresh: the network is gone")
	page.until(`(window.fetch = window.whole, true)`)
	page.shows("as of ")

	page.press("Live tail")
	page.press("Follow")
	page.shows("the tail has begun")
	sent = a.Sends(t, client.ToUser(proof.Bob), attack)
	page.shows(sent.MessageID)
	title, err := chromedp.Run(page.ctx, chromedp.Title())
	require.NoError(t, err)
	require.Equal(t, "Millrace console", title)
}
