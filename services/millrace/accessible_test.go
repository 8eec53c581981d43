package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// faint lists the texts that are seen with less contrast to what is behind them than WCAG 2.2 wants (1.4.3, level AA), each with
// its contrast. Texts for assistive technology alone are not seen.
const faint = `(() => {
	const colour = (of) => of.match(/[\d.]+/g).map(Number);
	const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
	const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
	const behind = (it) => {
		for (; it; it = it.parentElement) {
			const c = colour(getComputedStyle(it).backgroundColor);
			if (c.length === 3 || c[3] === 1) return c;
		}
		return [255, 255, 255];
	};
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
	while (texts.nextNode()) {
		const { textContent, parentElement: it } = texts.currentNode;
		if (!textContent.trim() || it.closest(".hidden") || !it.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
		const [low, high] = [luminance(colour(getComputedStyle(it).color)), luminance(behind(it))].sort((a, b) => a - b);
		const contrast = (high + 0.05) / (low + 0.05);
		if (contrast < 4.5) found.push(textContent.trim().slice(0, 40) + ": " + contrast.toFixed(2));
	}
	return found;
})()`

// requireAccessible checks in both colour schemes that texts can be read, and that whoever does not see the page is told what
// each control is, which part is the main one, and of messages as they come.
func (p *tab) requireAccessible(view string) {
	p.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		p.look(390, 780, scheme)
		found, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]string](faint))
		require.NoError(p.t, err)
		require.Empty(p.t, found, "%s, %s", view, scheme)
	}
	tree, err := chromedp.Call(p.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	require.NoError(p.t, err)
	named := []string{"button", "link", "textbox", "checkbox", "combobox", "dialog", "log"}
	roles := map[string]int{}
	for _, node := range tree.Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}
		role := wordIn(p.t, node.Role)
		roles[role]++
		if slices.Contains(named, role) {
			require.NotEmpty(p.t, strings.TrimSpace(wordIn(p.t, node.Name)), "%s: a %s without a name", view, role)
		}
	}
	if roles["dialog"] == 0 { // beside an open one nothing else can be reached
		require.Equal(p.t, 1, roles["main"]+roles["complementary"], "%s: %v", view, roles)
	}
	require.Positive(p.t, roles["heading"], view)
}

// wordIn returns the text in a value of the accessibility tree.
func wordIn(t *testing.T, v *accessibility.Value) (word string) {
	t.Helper()
	if v != nil {
		require.NoError(t, json.Unmarshal(v.Value, &word))
	}
	return word
}

func TestInABrowserTheChatPageIsAccessible(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir())
	user := proof.Join(t, d.url(), proof.Bob, nil)
	user.Sends(t, client.ToUser(proof.Alice), "Hello")
	group, err := user.Group(t.Context(), client.GroupCreate{Name: "Friends", Members: []int64{proof.Alice}})
	require.NoError(t, err)

	page := browse(t, "http://"+d.gateway.Addr()+"/chat/")
	page.look(390, 780, "light")
	page.shows("Who are you?")
	page.requireAccessible("welcome")
	page.be("Alice")
	page.shows("Friends")
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
	page.shows("Hello")
	page.says("Good morning")
	page.actions("Good morning")
	page.says(strings.Repeat("x", 40_000))
	page.shows("Retry")
	page.requireAccessible("a conversation")
	page.press("Edit")
	page.shows("Editing a message")
	page.requireAccessible("editing")
	page.until(`document.querySelector("[role=log]").closest("[aria-live=off]") === null`)

	page.goTo(events.Group(group.GroupID))
	page.shows("Say hello")
	page.requireAccessible("an empty conversation")
	page.label("Members")
	page.shows("owner")
	page.requireAccessible("members")
}
