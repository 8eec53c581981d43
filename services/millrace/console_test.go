package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// tab shows a page in a browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// browse opens a page.
func browse(t *testing.T, url string) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		require.NoError(t, chromedp.Cancel(ctx))
		cancel()
		stop()
	})
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(url)))
	return &tab{t, ctx}
}

// until waits until the page has the expression come true.
func (p *tab) until(expression string, args ...any) {
	p.t.Helper()
	for i := range args {
		quoted, err := json.Marshal(args[i])
		require.NoError(p.t, err)
		args[i] = quoted
	}
	expression = fmt.Sprintf(expression, args...)
	ctx, cancel := context.WithTimeout(p.ctx, proof.Patience)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(0)))
	require.NoError(p.t, err, expression)
}

func (p *tab) shows(words string) {
	p.t.Helper()
	p.until(`document.body.innerText.includes(%s)`, words)
}

// press clicks on the button or link with the text as soon as there is one.
func (p *tab) press(text string) {
	p.t.Helper()
	p.until(`(() => {
		const it = [...document.querySelectorAll("button, a")].find((x) => x.innerText === %s);
		it?.click();
		return !!it;
	})()`, text)
}

// fill writes into the field of the name.
func (p *tab) fill(name, value string) {
	p.t.Helper()
	p.until(`((it) => it && !!(it.value = %[2]s))(document.querySelector("[name=" + %[1]s + "]"))`, name, value)
}

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
