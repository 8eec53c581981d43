package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"millrace/events"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// Task screenshots sets it.
var screenshots = flag.String("screenshots", "", "folder that screenshots of the pages are written to")

// maxScreenshot is what a picture in the repository may have, in bytes.
const maxScreenshot = 150 << 10

// shoot writes a picture of the page.
func (p *tab) shoot(name string) {
	p.t.Helper()
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	require.NoError(p.t, err)
	require.Less(p.t, len(picture), maxScreenshot, name)
	require.NoError(p.t, os.WriteFile(filepath.Join(*screenshots, name+".png"), picture, 0o600))
}

func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("task screenshots writes them")
	}
	d := startDev(t, t.TempDir())
	const me, bob, carol, dan = proof.Alice, proof.Bob, proof.Bob + 1, proof.Bob + 2
	people := map[int64]*proof.User{}
	for _, id := range []int64{me, bob, carol, dan} {
		people[id] = proof.Join(t, d.url(), id, nil)
	}
	group, err := people[me].Group(t.Context(), client.GroupCreate{Name: "Lighthouse crew", Members: []int64{bob, carol}})
	require.NoError(t, err)
	room := client.ToGroup(group.GroupID)
	for _, said := range []struct {
		from int64
		to   client.Target
		text string
	}{
		{dan, client.ToUser(me), "The photos from the harbour are in the shared folder."},
		{bob, room, "Storm warning for tonight. Who takes the lamp?"},
		{carol, room, "I can, until two."},
		{carol, client.ToUser(me), "Did the new relay arrive?"},
		{me, client.ToUser(bob), "Good morning! Did you get the tide tables?"},
		{bob, client.ToUser(me), "Yes, thank you. High water is at 6:40, so we should leave before six."},
		{bob, client.ToUser(me), "Shall I bring the long rope, or is the short one enough?"},
		{me, client.ToUser(bob), "The long one, please. The pier is higher than it looks, and last time we had to improvise with two belts and a fishing line."},
		{bob, client.ToUser(me), "I remember 😄"},
		{me, client.ToUser(bob), "See you at the pier."},
	} {
		people[said.from].Sends(t, said.to, said.text)
	}
	history, err := people[bob].History(t.Context(), client.History{Conversation: events.Direct(me, bob)})
	require.NoError(t, err)
	require.NoError(t, people[bob].Do(t.Context(), client.Read{Conversation: events.Direct(me, bob), Seq: history.Messages[len(history.Messages)-2].Seq}))

	chat := browse(t, "http://"+d.gateway.Addr()+"/chat/")
	chat.be("Alice")
	chat.shows("Lighthouse crew")
	chat.goTo(events.Direct(me, bob))
	chat.shows("See you at the pier")
	chat.until(`document.querySelectorAll(".count").length === 3`)
	chat.look(1280, 720, "light")
	chat.shoot("chat")
	chat.look(390, 720, "dark")
	chat.shoot("chat-phone")

	console := browse(t, "http://"+d.api.listener.Addr().String()+"/console/")
	console.look(1280, 720, "light")
	for i := range 40 { // so that there is something to see
		people[bob].Sends(t, client.ToUser(carol), fmt.Sprint(i))
		console.until(`document.querySelector("polyline")?.getAttribute("points").split(" ").length > %[1]s`, i/10)
	}
	console.shoot("console")
}
