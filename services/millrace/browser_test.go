package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

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
	// Each page has its browser to itself, and the focus, as if somebody looked at it.
	_, err = chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	require.NoError(t, err)
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(url)))
	return &tab{t, ctx}
}

// pageGone is the code of the browser's error for a page that was left or loaded again while it was asked, whose words vary.
const pageGone = -32000

// until waits until the page has the expression come true, also if it is loaded again meanwhile.
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
	for {
		_, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(0)))
		if err == nil {
			return
		}
		if gone := new(cdproto.Error); ctx.Err() == nil && errors.As(err, &gone) && gone.Code == pageGone {
			continue
		}
		text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		require.NoError(p.t, err, "%s\nThe page says: %s", expression, text)
	}
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
	p.until(`((it) => it && (it.value = %[2]s, true))(document.querySelector("[name=" + %[1]s + "]"))`, name, value)
}

// look gives the page a size in pixels and a colour scheme, light or dark.
func (p *tab) look(width, height int64, scheme string) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.EmulateViewport(width, height)))
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	require.NoError(p.t, err)
}

// reload loads the page again.
func (p *tab) reload() {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.Reload()))
}

// goTo has the page show what the address names after the "#".
func (p *tab) goTo(name string) {
	p.t.Helper()
	p.until(`(location.hash = %s, true)`, name)
}

// label clicks on the button of that label as soon as there is one that can be seen.
func (p *tab) label(label string) {
	p.t.Helper()
	p.until(`((it) => (it?.click(), !!it))([...document.querySelectorAll("[aria-label=" + JSON.stringify(%s) + "]")].findLast((x) => x.checkVisibility()))`, label)
}

// be signs in as a user of the chat page whom it proposes.
func (p *tab) be(name string) {
	p.t.Helper()
	p.until(`((it) => (it?.click(), !!it))([...document.querySelectorAll("button.person")].find((x) => x.innerText.includes(%s)))`, name)
}
