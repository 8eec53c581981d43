package chat

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"millrace/events"
	"millrace/services/client"
)

const maxShown = 10_000

// view is what the user sees: the conversation it is in, and which of its messages were printed. While a page of history is
// on its way the view holds pushes back, so that older messages come before newer ones.
type view struct {
	print *printer

	mu      sync.Mutex
	to      client.Target
	held    []client.Push
	hold    bool
	newest  int64  // the highest seq that was printed of the conversation
	latest  string // the id of the message of somebody else that was printed last of the conversation
	marked  int64  // the seq up to which the conversation was marked as read
	printed *simplelru.LRU[string, struct{}]
}

func newView(p *printer) *view {
	printed, _ := simplelru.NewLRU[string, struct{}](maxShown, nil) // fails only for a size below 1
	return &view{print: p, printed: printed}
}

func (v *view) target() client.Target {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.to
}

// is sets who the user is.
func (v *view) is(user int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.print.me = user
}

// enter moves to another conversation and holds back pushes until release.
func (v *view) enter(to client.Target) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.to, v.newest, v.latest, v.marked, v.hold = to, 0, "", 0, true
}

func (v *view) conversation() string {
	switch {
	case v.to.GroupID != 0:
		return events.Group(v.to.GroupID)
	case v.to.To != 0:
		return events.Direct(v.print.me, v.to.To)
	}
	return ""
}

// page prints messages of history, those after a seq.
func (v *view) page(messages []client.Message, after int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range messages {
		if m.Seq > after {
			v.show(m.PushMessage, m.Seq, "")
		}
	}
}

// release prints those held-back messages that were not printed yet.
func (v *view) release() {
	v.mu.Lock()
	defer v.mu.Unlock()
	held := v.held
	v.held, v.hold = nil, false
	for _, p := range held {
		v.pushed(p)
	}
}

func (v *view) push(p client.Push) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.hold {
		v.held = append(v.held, p)
		return
	}
	v.pushed(p)
}

func (v *view) pushed(p client.Push) {
	elsewhere := p.Conversation
	if elsewhere == v.conversation() {
		elsewhere = ""
	}
	switch p.Type {
	case events.NewMessage:
		if p.Message != nil && !v.printed.Contains(p.Message.MessageID) {
			v.show(*p.Message, p.Seq, elsewhere)
		}
	case events.MessageEdited:
		v.print.note("a message was edited: %s", withExtra(p.Content, p.Extra))
	case events.MessageRecalled:
		v.print.note("a message was recalled")
	case events.MessageModerated:
		v.print.note("your message was removed: %s", p.Reason)
	case events.GroupCreated:
		v.print.note("%d created group %d", p.By, p.GroupID)
	case events.MemberJoined:
		v.print.note("%d joined group %d", p.User, p.GroupID)
	case events.MemberLeft:
		v.print.note("%d left group %d", p.User, p.GroupID)
	case events.TypeSettingsChanged:
		v.print.note("%s: %s", p.Conversation, settingsOf(p.Settings))
	case events.GroupRenamed:
		v.print.note("group %d is now called %s", p.GroupID, p.Name)
	case events.MemberRole:
		v.print.note("%d is now %s of group %d", p.User, p.Role, p.GroupID)
	case events.MemberMuted:
		v.print.note("%s", noteOfMute(p))
	case events.GroupDissolved:
		v.print.note("group %d is no more", p.GroupID)
	case client.TypeUserOnline:
		v.print.note("%d is online", p.User)
	case client.TypeUserOffline:
		v.print.note("%d is offline", p.User)
	case events.SystemNotice:
		v.print.note("notice: %s", withExtra(p.Content, p.Extra))
	case client.TypeComplete:
		v.print.state("nothing is missing any more")
	}
}

func (v *view) show(m events.PushMessage, seq int64, elsewhere string) {
	v.printed.Add(m.MessageID, struct{}{})
	if elsewhere == "" {
		v.newest = max(v.newest, seq)
		if m.From != v.print.me && !m.Recalled {
			v.latest = m.MessageID
		}
	}
	v.print.message(m, elsewhere)
}

// where returns the name of the conversation that the user is in, or an empty string.
func (v *view) where() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.conversation()
}

// answerable returns the id of the message that an answer is to, or an empty string.
func (v *view) answerable() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.latest
}

// unmarked returns the read mark that is due, if any.
func (v *view) unmarked() (client.Read, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.newest <= v.marked {
		return client.Read{}, false
	}
	v.marked = v.newest
	return client.Read{Conversation: v.conversation(), Seq: v.newest}, true
}

// showHistory prints the newest messages of the conversation.
func (h *chat) showHistory(ctx context.Context, limit int) error {
	conversation := h.view.where()
	page, err := h.client.History(ctx, client.History{Conversation: conversation, Limit: limit})
	if err != nil {
		return err
	}
	h.view.page(page.Messages, 0)
	return nil
}

// showReaders prints who has read the conversation up to the newest message printed.
func (h *chat) showReaders(ctx context.Context) error {
	h.view.mu.Lock()
	conversation, newest := h.view.conversation(), h.view.newest
	h.view.mu.Unlock()
	if newest == 0 {
		return errors.New("nothing is shown yet")
	}
	readers, err := h.client.Readers(ctx, client.Readers{Conversation: conversation, Seq: newest})
	if err != nil {
		return err
	}
	users := make([]int64, len(readers))
	for i, r := range readers {
		users[i] = r.User
	}
	h.print.note("read by %v", users)
	return nil
}

// catchUp prints from history what came after the newest message printed.
func (h *chat) catchUp(ctx context.Context) error {
	h.view.mu.Lock()
	after, conversation := h.view.newest, h.view.conversation()
	h.view.hold = true
	h.view.mu.Unlock()
	defer h.view.release()
	if after == 0 || conversation == "" {
		return nil
	}
	for {
		page, err := h.client.History(ctx, client.History{Conversation: conversation, AfterSeq: &after, Limit: 200})
		if err != nil {
			return err
		}
		h.view.page(page.Messages, after)
		if !page.More || len(page.Messages) == 0 {
			return nil
		}
		after = slices.MaxFunc(page.Messages, func(a, b client.Message) int { return int(a.Seq - b.Seq) }).Seq
	}
}
