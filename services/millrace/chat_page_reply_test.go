package main

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// keys presses keys by their names. What a page does with one keeps the browser from doing what it does by itself.
func (p *tab) keys(names ...string) {
	p.t.Helper()
	for _, name := range names {
		down := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: name, Code: name}
		down.WindowsVirtualKeyCode = map[string]int64{"Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40}[name]
		if name == "Enter" {
			down.Text = "\r"
		}
		up := down
		up.Type, up.Text = input.DispatchKeyEventTypeKeyUp, ""
		for _, event := range []input.DispatchKeyEventParams{down, up} {
			_, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, event)
			require.NoError(p.t, err)
		}
	}
}

// types writes a message as a keyboard does.
func (p *tab) types(words string) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.SendKeys("[name=message]", words)))
}

func TestInABrowserTheChatPageRepliesAndGoesToTheOriginal(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir())
	user, direct := proof.Join(t, d.url(), proof.Bob, nil), events.Direct(proof.Alice, proof.Bob)
	original := user.Sends(t, client.ToUser(proof.Alice), script)
	for i := range 120 {
		user.Sends(t, client.ToUser(proof.Alice), fmt.Sprintf("message %d", i))
	}
	for _, id := range []string{"no such message", original.MessageID} {
		_, err := user.Send(t.Context(), client.Send{Target: client.ToUser(proof.Alice), Content: "A reply", ReplyTo: id})
		require.NoError(t, err)
	}
	page := chats(t, d.gateway.Addr(), "Alice", direct)
	page.until(`document.querySelectorAll(".quote").length === 2 && document.querySelectorAll(".bubble").length === 50`)
	page.shows("An earlier message")
	page.until(`([...document.querySelectorAll(".quote")].at(-1).focus(), true)`)
	page.keys("Enter")
	page.until(`document.querySelectorAll(".bubble").length === 123 && document.activeElement.querySelector(".bubble p")?.textContent === %s`, script)
	page.until(`((it) => it.top >= 0 && it.bottom <= innerHeight)(document.activeElement.getBoundingClientRect())`)
	page.until(`[...document.querySelectorAll(".quote")].at(-1).innerText.includes(%s)`, script)
	page.keys("ArrowDown", "ArrowDown", "ArrowUp")
	page.until(`document.activeElement.querySelector(".bubble p").textContent === "message 0" && document.querySelectorAll(".act[tabindex='0']").length === 1`)
	page.press("Latest messages")
	page.until(`!document.querySelector(".newer").checkVisibility()`)
	page.until(`(document.querySelector(".quote").click(), true)`) // all history is here, and does not have it
	page.shows("not in the history")

	page.act(script, "Reply")
	page.shows("Reply to Bob")
	page.keys("Escape")
	page.until(`!document.body.innerText.includes("Reply to Bob")`)
	page.act(script, "Reply")
	page.types("Mine")
	page.keys("Enter")
	page.until(`((it) => it.innerText.includes("Mine") && it.querySelector(".quote").innerText.includes("Bob"))([...document.querySelectorAll(".mine")].at(-1))`)
	page.until(`!document.body.innerText.includes("Reply to Bob")`)
	require.Eventually(t, func() bool {
		history, err := user.History(t.Context(), client.History{Conversation: direct, Limit: 1})
		return err == nil && history.Messages[0].ReplyTo == original.MessageID && history.Messages[0].Content == "Mine"
	}, proof.Patience, proof.Patience/1000)

	require.NoError(t, user.Do(t.Context(), client.Recall{Conversation: direct, MessageID: original.MessageID}))
	page.until(`[...document.querySelectorAll(".quote")].at(-1).innerText.includes("Message recalled")`)
	page.until(`!document.title.includes("broken")`)
}

func TestInABrowserTheChatPageMentionsMembersAndShowsWhereOneIsMentioned(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir())
	user := proof.Join(t, d.url(), proof.Bob, nil)
	group, err := user.Group(t.Context(), client.GroupCreate{Name: "Friends", Members: []int64{proof.Alice, proof.Bob + 1}})
	require.NoError(t, err)
	conversation := events.Group(group.GroupID)
	page := chats(t, d.gateway.Addr(), "Alice", conversation)
	page.shows("Alice, Bob, and Carol")
	page.types("mail@")
	page.types(" @")
	page.until(`[...document.querySelectorAll("[role=option] .name")].map((x) => x.innerText).join() === "Bob,Carol"`)
	page.keys("ArrowDown")
	page.until(`document.getElementById(document.activeElement.getAttribute("aria-activedescendant")).textContent.includes("Carol")`)
	page.keys("Enter")
	page.types("and @bob")
	page.keys("Escape")
	page.until(`!document.querySelector("[role=listbox]").checkVisibility()`)
	page.until(`document.querySelector("[name=message]").value === "mail@ @Carol and @bob"`)
	page.keys("Enter")
	page.until(`[...document.querySelectorAll("mark")].map((x) => x.innerText).join() === "@Carol,@bob"`)
	require.ElementsMatch(t, []int64{proof.Bob, proof.Bob + 1}, user.Sees(t, "new_message").Message.Mentions)

	carol := chats(t, d.gateway.Addr(), "Carol", "")
	carol.until(`document.querySelector(".count")?.innerText.startsWith("@ 1")`)
	carol.reload()
	carol.until(`document.querySelector(".count")?.innerText.startsWith("@ 1")`)
	carol.goTo(conversation)
	carol.until(`document.querySelector(".called mark.me")?.innerText === "@Carol" && document.querySelector(".count") === null`)
	carol.goTo("")
	for _, mentions := range [][]int64{nil, {proof.Bob + 1}} { // the second one is shown, although the text does not have it
		_, err = user.Send(t.Context(), client.Send{Target: client.ToGroup(group.GroupID), Content: "Hello", Mentions: mentions})
		require.NoError(t, err)
	}
	carol.until(`document.querySelector(".count")?.innerText.startsWith("@ 2")`)
}

func TestInABrowserTheChatPageMutesPinsAndHidesConversations(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir())
	user := proof.Join(t, d.url(), proof.Bob, nil)
	group, err := user.Group(t.Context(), client.GroupCreate{Name: "Friends", Members: []int64{proof.Alice}})
	require.NoError(t, err)
	conversation := events.Group(group.GroupID)
	page := chats(t, d.gateway.Addr(), "Alice", conversation)
	page.shows("Friends")
	set := func(name, property string, value any) {
		t.Helper()
		page.until(`(document.querySelector("[aria-label=Settings]").focus(), true)`)
		page.keys("Enter")
		page.until(`document.querySelector("dialog [name=muted]") === document.activeElement`)
		page.until(`(document.querySelector("dialog [name=" + %s + "]")[%s] = %s, true)`, name, property, value)
		page.press("Save")
		page.until(`document.querySelector("dialog") === null && document.activeElement.ariaLabel === "Settings"`)
	}
	set("muted", "selectedIndex", 4) // until the user ends it
	page.until(`document.querySelector("#title .icon-muted") !== null && document.querySelector(".conversations .icon-muted") !== null`)
	page.goTo("")
	user.Sends(t, client.ToGroup(group.GroupID), "Nobody is told")
	page.until(`document.querySelector(".count.quiet") !== null && document.title === "Millrace chat"`)
	_, err = user.Send(t.Context(), client.Send{Target: client.ToGroup(group.GroupID), Content: "Alice is", Mentions: []int64{proof.Alice}})
	require.NoError(t, err)
	page.until(`document.querySelector(".count:not(.quiet)") !== null && document.title.startsWith("(2)")`)

	page.goTo(conversation)
	set("pinned", "checked", true)
	user.Sends(t, client.ToUser(proof.Alice), "Hello")
	page.until(`((it) => it.length === 2 && it[0].textContent.startsWith("Friends, pinned"))([...document.querySelectorAll(".conversations .name")])`)
	page.label("Settings")
	page.shows("Until I end it")
	page.label("Close")
	set("muted", "selectedIndex", 1)
	page.until(`document.querySelector(".icon-muted") === null`)
	set("hidden", "checked", true)
	page.until(`[...document.querySelectorAll(".conversations .name")].length === 1`)
	page.press("Hidden ones (1)")
	page.until(`[...document.querySelectorAll(".conversations .name")].length === 2`)
	page.press("Without hidden ones")
	user.Sends(t, client.ToGroup(group.GroupID), "Here again")
	page.until(`document.querySelector(".conversations .name").textContent.startsWith("Friends, pinned")`)
}
