package main

import (
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

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

	a := proof.Join(t, d.url(), proof.Alice, nil)
	const attack = `<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>`
	sent := a.Sends(t, client.ToUser(proof.Bob), attack)
	a.Sends(t, client.ToUser(proof.Bob), trap)
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
	page.press("Show contents")
	page.shows(attack)

	page.press("Poison queue")
	page.shows("trapped")
	page.press("Look")
	page.press("Show headers and content")
	page.shows(`"content":"trap"`)
	set.Store(false)
	page.press("Replay")
	eventually(t, a, sent.Conversation, 2)
	page.shows("0 selected")

	page.press("Live tail")
	page.press("Follow")
	page.shows("the tail has begun")
	sent = a.Sends(t, client.ToUser(proof.Bob), attack)
	page.shows(sent.MessageID)
	title, err := chromedp.Run(page.ctx, chromedp.Title())
	require.NoError(t, err)
	require.Equal(t, "Millrace console", title)
}
