package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/infra/config"
	"millrace/services/client"
	"millrace/services/millrace/proof"
)

// says writes a message into the conversation that is open.
func (p *tab) says(words string) {
	p.t.Helper()
	p.until(`((it) => it && !!(it.value = %s, it.dispatchEvent(new Event("input")), it.form.requestSubmit(), true))(document.querySelector("[name=message]"))`, words)
}

// talk waits until the conversation shows exactly these messages, all of them accepted.
func (p *tab) talk(words ...string) {
	p.t.Helper()
	p.until(`document.querySelector(".pending") === null &&
		JSON.stringify([...document.querySelectorAll(".bubble p")].map((x) => x.textContent)) === JSON.stringify(%s)`, words)
}

// actions shows what can be done with the message of the words.
func (p *tab) actions(words string) {
	p.t.Helper()
	p.until(`((it) => (it?.click(), !!it))([...document.querySelectorAll(".message")]
		.findLast((x) => x.querySelector(".bubble p").textContent === %s)?.querySelector(".act"))`, words)
}

// act does something with the message of the words.
func (p *tab) act(words, deed string) {
	p.t.Helper()
	p.actions(words)
	p.press(deed)
}

// chats opens the chat page at the address as one of those that it proposes, in the conversation.
func chats(t *testing.T, address, name, conversation string) *tab {
	t.Helper()
	page := browse(t, "http://"+address+"/chat/")
	page.be(name)
	page.shows("Connected")
	if conversation != "" {
		page.goTo(conversation)
		page.seen("[name=message]")
	}
	return page
}

// seen waits until the element is there.
func (p *tab) seen(selector string) {
	p.t.Helper()
	p.until(`document.querySelector(%s) !== null`, selector)
}

const script = `<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>`

func TestInABrowserTwoChatPagesTalk(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir())
	direct := events.Direct(proof.Alice, proof.Bob)
	alice, bob := chats(t, d.gateway.Addr(), "Alice", direct), chats(t, d.gateway.Addr(), "Bob", "")
	alice.says(script)
	bob.until(`document.querySelector(".count")?.innerText.startsWith("1") && document.title.startsWith("(1)")`)
	bob.until(`document.querySelector(".conversations .online .preview")?.innerText === %s`, script)
	bob.goTo(direct)
	bob.talk(script)
	alice.seen(".tick.read")
	bob.until(`document.querySelector(".count") === null`)

	bob.types("By keyboard")
	alice.shows("typing…")
	bob.keys("Enter")
	alice.talk(script, "By keyboard")
	bob.act("By keyboard", "Edit")
	bob.says("Written anew")
	alice.talk(script, "Written anew")
	alice.shows("edited")
	alice.act(script, "Recall")
	bob.talk("Message recalled", "Written anew")

	// What is too long is refused. It stays until its author decides.
	alice.says(strings.Repeat("x", 40_000))
	alice.seen(".failed")
	alice.press("Retry")
	alice.seen(".failed")
	alice.press("Discard")
	alice.talk("Message recalled", "Written anew")

	alice.press("Go offline")
	alice.shows("Offline")
	for _, words := range []string{"one", "two"} {
		alice.says(words)
	}
	alice.until(`document.querySelectorAll(".message.pending").length === 2`)
	bob.says("three")
	bob.talk("Message recalled", "Written anew", "three")
	alice.press("Go online")
	for _, page := range []*tab{alice, bob} {
		page.talk("Message recalled", "Written anew", "three", "one", "two")
	}
	for _, page := range []*tab{alice, bob} {
		page.until(`!document.title.includes("broken") && document.querySelector("#page img, #page script") === null &&
			performance.getEntriesByType("resource").every(({ name }) => name.startsWith(location.origin + "/"))`)
	}
}

func TestInABrowserTheChatPageKeepsAGroupWithRoles(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir())
	alice := chats(t, d.gateway.Addr(), "Alice", "g:1")
	alice.shows("no member")
	alice.label("New group")
	alice.fill("name", script)
	alice.until(`(document.querySelector("input[type=checkbox]").checked = true)`)
	alice.press("Create")
	alice.shows("Alice and Bob")
	alice.until(`document.querySelector("#title").innerText === %s`, script)
	alice.says("Welcome")

	bob := chats(t, d.gateway.Addr(), "Bob", "")
	bob.until(`((it) => (it?.click(), !!it))(document.querySelector(".conversations a"))`)
	bob.talk("Welcome")
	bob.until(`document.querySelector("#title").innerText === %s`, script)
	bob.label("Members")
	bob.until(`document.querySelector("dialog [name=add]").checkVisibility() === false`)
	alice.label("Members")
	alice.press("Make admin")
	bob.until(`document.querySelector("dialog [name=add]").checkVisibility()`)
	bob.fill("add", "1003")
	bob.press("Add")
	bob.shows("Carol")
	bob.fill("rename", "Friends")
	bob.press("Rename")
	alice.until(`document.querySelector("#title").innerText === "Friends"`)
	bob.label("Close")
	bob.act("Welcome", "Recall")
	alice.talk("Message recalled")

	alice.press("Mute for an hour") // Carol, the last one of whom that can be said
	alice.shows("member, muted")
	alice.until(`([...document.querySelectorAll("button")].find((x) => x.innerText === "Remove").click(), true)`)
	bob.shows("no member")
	alice.press("Dissolve the group")
	alice.shows("No conversations yet")
}

func TestInABrowserTheChatPageLoadsHistoryAsOneScrolls(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir())
	user := proof.Join(t, d.url(), proof.Alice, nil)
	var all []string
	for i := range 130 {
		all = append(all, fmt.Sprintf("message %d", i))
		user.Sends(t, client.ToUser(proof.Bob), all[i])
	}
	page := chats(t, d.gateway.Addr(), "Bob", events.Direct(proof.Alice, proof.Bob))
	page.talk(all[80:]...)
	page.until(`((it) => it.scrollHeight - it.scrollTop - it.clientHeight < 2)(document.querySelector(".log"))`)
	page.until(`(document.querySelector(".log").scrollTop = 0, document.querySelectorAll(".bubble").length === 130)`)
	page.talk(all...)
}

// devProcess is a dev process of its own.
type devProcess struct {
	t    *testing.T
	args []string
	cmd  *exec.Cmd
}

func (p *devProcess) start() {
	p.t.Helper()
	p.cmd = exec.CommandContext(p.t.Context(), os.Args[0], p.args...)
	p.cmd.Env = append(os.Environ(), asItself+"=1")
	p.cmd.Stderr = os.Stderr
	require.NoError(p.t, p.cmd.Start())
}

func (p *devProcess) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()         // returns the error that it was killed
}

// signal stops the process where it is, or lets it go on.
func (p *devProcess) signal(s syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

func TestInABrowserTheChatPageLosesNothingWhileTheServerIsKilledAndThePageLoadedAgain(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("no chromium: apt-get install chromium")
	}
	free := proof.FreeAddresses(t, 4)
	dir := t.TempDir()
	dev := &devProcess{t: t, args: []string{
		"dev", "--data-dir=" + dir, "--log-level=error", "--connect-addr=" + free[0], "--embedded-kafka-addr=" + free[1],
		"--message-addr=" + free[2], "--api-addr=" + free[3], "--admin-addr=",
	}}
	dev.start()
	t.Cleanup(func() { dev.kill() })
	awaitListening(t, free[0])
	direct := events.Direct(proof.Alice, proof.Bob)
	alice, bob := chats(t, free[0], "Alice", direct), chats(t, free[0], "Bob", direct)
	alice.says("Hello")
	bob.talk("Hello")

	dev.kill()
	alice.shows("No connection")
	bob.shows("No connection")
	alice.says("Still there?")
	bob.says("Somehow")
	alice.seen(".pending")
	dev.start()
	bob.until(`document.querySelectorAll(".bubble").length === 3 && document.querySelector(".pending") === null`)
	alice.until(`document.querySelectorAll(".bubble").length === 3 && document.querySelector(".pending") === null`)

	// The process stands still with requests in it whose answers nobody gets.
	dev.signal(syscall.SIGSTOP)
	alice.says("four")
	alice.says("five")
	alice.says("six")
	alice.until(`document.querySelectorAll(".message.pending").length === 3`)
	require.Eventually(t, func() bool { return alice.waiting() == 3 }, proof.Patience, 10*time.Millisecond)
	require.NoError(t, chromedp.Do(alice.ctx, chromedp.Navigate("about:blank")))
	dev.signal(syscall.SIGCONT)
	require.NoError(t, chromedp.Do(alice.ctx, chromedp.Navigate("http://"+free[0]+"/chat/#"+direct)))
	for _, page := range []*tab{alice, bob} {
		page.until(`document.querySelector(".pending") === null &&
			[...document.querySelectorAll(".bubble p")].map((x) => x.textContent).slice(3).join() === "four,five,six"`)
	}
}

// waiting returns how many messages the browser keeps to send them.
func (p *tab) waiting() int {
	p.t.Helper()
	n, err := chromedp.Run(p.ctx, chromedp.Evaluate[int](`new Promise((resolve, reject) => {
		const opened = indexedDB.open("millrace", 1);
		opened.onerror = reject;
		opened.onsuccess = () => {
			const counted = opened.result.transaction("sends").objectStore("sends").count();
			counted.onsuccess = () => { opened.result.close(); resolve(counted.result); };
		};
	})`, chromedp.EvalAwaitPromise))
	require.NoError(p.t, err)
	return n
}

func awaitListening(t *testing.T, address string) {
	t.Helper()
	dialer := new(net.Dialer)
	require.Eventually(t, func() bool {
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, proof.Patience, 10*time.Millisecond)
}

// Outside dev the page is served only where that is set, and nobody gets a token by it.
func TestTheChatPageIsServedInDevAndWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	status := func(method, url string) int {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(`{"user":1001}`))
		require.NoError(t, err)
		request.Close = true
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	d := startDevAs(t, t.TempDir(), []string{"--chat-page=false"})
	require.Equal(t, http.StatusNotFound, status(http.MethodGet, "http://"+d.gateway.Addr()+"/chat/"))
	for _, served := range []bool{false, true} {
		var gateway *gatewayServer
		stop := startInside(t, config.Connect, fx.Populate(&gateway), "--connect-addr=127.0.0.1:0", "--jwt-secret="+proof.Secret,
			"--message-addrs="+d.grpc.Addr(), fmt.Sprintf("--chat-page=%t", served))
		at := "http://" + gateway.Addr()
		require.Equal(t, http.StatusNotFound, status(http.MethodPost, at+"/dev/token"))
		require.Equal(t, map[bool]int{true: http.StatusOK, false: http.StatusNotFound}[served], status(http.MethodGet, at+"/chat/"))
		stop()
	}
	require.False(t, parse(t, config.Connect, "--jwt-secret="+proof.Secret).ChatPage)
}

func TestInABrowserTheChatPageTakesATokenWhereTheServerGivesNone(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir())
	var gateway *gatewayServer
	stop := startInside(t, config.Connect, fx.Populate(&gateway), "--connect-addr=127.0.0.1:0", "--jwt-secret="+proof.Secret,
		"--message-addrs="+d.grpc.Addr(), "--chat-page")
	t.Cleanup(stop)
	page := browse(t, "http://"+gateway.Addr()+"/chat/")
	page.fill("token", "nonsense")
	page.press("Enter")
	page.shows("This is no token")
	token, err := proof.Token(proof.Bob)(t.Context())
	require.NoError(t, err)
	page.fill("token", token)
	page.press("Enter")
	page.shows("Connected")
	page.shows("User 1002")
	page.label("Sign out")
	page.shows("Paste yours")
}

func TestInABrowserTheChatPageShowsANoticeOnceUntilItIsDismissed(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir())
	alice := chats(t, d.gateway.Addr(), "Alice", "")
	for _, id := range []string{"one", "one", "two"} {
		_, err := run(t, "notice", "--message-addrs="+d.grpc.Addr(), "--users=1001", "--id="+id, "--content="+script)
		require.NoError(t, err)
	}
	alice.until(`document.querySelectorAll(".notice").length === 2 && document.querySelector("#notices img, #notices script") === null`)
	alice.shows(script)
	alice.label("Dismiss the notice")
	alice.until(`document.querySelectorAll(".notice").length === 1 && !document.title.includes("broken")`)
}
