// Package notify tells users who are not online that there are messages for them, by Web Push to their browsers and by signed
// requests to the operator's endpoints.
//
// The handler only counts (note.go): the first message of a conversation begins a window for each of its members, and the store
// keeps the count. When a window has ended, any process that runs the handler takes it from the store for a while (tell.go). It
// finds out whether the user still has to be told (verdict.go): whoever is online, has read the message or wants to hear nothing is
// not. It sends one notification to every target (target.go, browser.go), and notes in the store what was told and what is to
// be repeated where. So a window survives the process, costs a bounded row while there is something in it, and is told twice
// only if a process dies between sending and noting that.
package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"

	"millrace/events"
	"millrace/handlers/webhook"
)

// Name is the handler's name.
const Name = "notify"

// NoReplay says why the handler cannot handle replays.
const NoReplay = "users would be told of a message after those that came later"

// Module provides the handler; it needs a [Config] and a [Store].
var Module = fx.Module(Name, fx.Provide(
	fx.Annotate(New, fx.OnStart((*Notify).Start), fx.OnStop((*Notify).Stop)),
	fx.Annotate((*Notify).Handler, fx.ResultTags(`group:"handlers"`)),
))

// Config says whom to tell what, when and where.
type Config struct {
	// Window is how long messages of a conversation are collected for one notification. That a user has gone is known up to 30 s
	// late. With a window of less, a message that comes in that time is told to nobody.
	Window time.Duration
	// MaxAge is the age from which on nobody is told of a message.
	MaxAge time.Duration
	// Preview puts the beginning of the latest message into the notification.
	Preview bool
	// GroupLimit is how many members a group may have so that all of them are told. In a larger one only those are whom the
	// message mentions.
	GroupLimit int
	Quiet      Quiet
	// Keys and Subject, a mailto: or https: URL, tell push services who sends. Without keys there is no Web Push.
	Keys    Keys
	Subject string
	// AllowPrivate allows push services at addresses that are not public.
	AllowPrivate bool
	// Endpoints get every notification, whether or not the user has browsers.
	Endpoints []webhook.Endpoint
	// Contain runs the function and returns its panic as an error. Nil lets a panic through.
	Contain func(func()) error
}

// Note says that there is a message that a user may have to be told of.
type Note struct {
	User         int64
	Conversation string
	MessageID    string
	// Seq is the message's position, From its author, At its time in Unix seconds.
	Seq, From, At int64
}

// Notification is what a user is to be told of one conversation.
type Notification struct {
	Note            // of the latest message
	Target   string // where to repeat it; empty: everywhere
	Count    int    // messages since the last notification
	Attempts int    // how often it could not be told at the target
	Due      time.Time
}

// Subscription is a browser of a user; see [PushSubscription] of the Push API.
//
// [PushSubscription]: https://www.w3.org/TR/push-api/#pushsubscription-interface
type Subscription struct{ Endpoint, P256dh, Auth string }

// Message is what a message is like now.
type Message struct {
	Content  string
	Type     int32
	Recalled bool
}

// Store keeps the windows, and knows what decides whether a user is told.
type Store interface {
	webhook.Store

	// Members returns the present members of a group.
	Members(ctx context.Context, group int64) ([]int64, error)
	// Subscriptions returns the subscriptions of those of the users who have any.
	Subscriptions(ctx context.Context, users []int64) (map[int64][]Subscription, error)
	DropSubscription(ctx context.Context, user int64, endpoint string) (was bool, err error)

	// NoteMessages counts each message for the user, unless one of the same or a later position was counted before, or it is a
	// repeat of the last one. The first one after a notification makes the next one due at the time.
	NoteMessages(ctx context.Context, notes []Note, due time.Time) error
	// TakeNotifications returns notifications that are due, and keeps them from others until the time.
	TakeNotifications(ctx context.Context, now, until time.Time, limit int) ([]Notification, error)
	// SettleNotification notes that so many of a notification's messages were told; with 0 its attempts are kept. What is left
	// is due at the time. What single targets lack is added to what they lack already.
	SettleNotification(ctx context.Context, n Notification, told int, next time.Time, repeats []Notification) error
	// DropNotifications forgets which messages before the time were told.
	DropNotifications(ctx context.Context, before time.Time) error

	// LastSeen returns the latest user_online or user_offline of those of the users who have one.
	LastSeen(ctx context.Context, users []int64) (map[int64]events.Record, error)
	// ReadMark returns up to which seq the user has read the conversation.
	ReadMark(ctx context.Context, user int64, conversation string) (int64, error)
	// Settings returns until when the user has muted the conversation, in Unix seconds, and whether it has hidden the
	// conversation after the message at seq.
	Settings(ctx context.Context, user int64, conversation string, seq int64) (mutedUntil int64, hidden bool, err error)
	// Sees reports whether the user is a member of the group and was one at the position.
	Sees(ctx context.Context, user, group, seq int64) (bool, error)
	// Message returns a message, and false if the store does not have it.
	Message(ctx context.Context, conversation, messageID string) (Message, bool, error)
}

// Notify counts messages and tells users of them.
type Notify struct {
	Config
	store     Store
	browsers  *browsers // nil without keys
	endpoints []endpoint
	metrics   metrics
	log       *slog.Logger
	now       func() time.Time

	stop    chan struct{}
	stopped sync.WaitGroup
	telling sync.WaitGroup
	tellers chan struct{} // holds an element for each notification that is being told
	dropped time.Time
}

// New returns the handler. It tells nobody before Start. The registerer may be nil.
func New(c Config, store Store, reg prometheus.Registerer, log *slog.Logger) *Notify {
	return newNotify(c, store, nil, reg, log)
}

// newNotify is New for servers whose certificates are trusted as the configuration says, nil being the system's way.
func newNotify(c Config, store Store, trust *tls.Config, reg prometheus.Registerer, log *slog.Logger) *Notify {
	n := &Notify{
		Config: c, store: store, metrics: newMetrics(reg), log: log, now: time.Now,
		stop: make(chan struct{}), tellers: make(chan struct{}, maxTellers),
	}
	if n.Contain == nil {
		n.Contain = func(f func()) error {
			f()
			return nil
		}
	}
	if c.Keys != (Keys{}) {
		n.browsers = newBrowsers(&c, trust, log)
	}
	for _, e := range c.Endpoints {
		n.endpoints = append(n.endpoints, endpoint{webhook.NewSender(e, store, trust, log), make(line, maxPerServer)})
	}
	return n
}

// Start begins to tell users.
func (n *Notify) Start(ctx context.Context) {
	for _, s := range n.endpoints {
		s.Start(ctx)
	}
	n.stopped.Go(n.tellAll)
}

// Stop ends that. What is being sent is sent to its end.
func (n *Notify) Stop() {
	close(n.stop)
	n.stopped.Wait()
	n.telling.Wait()
	n.Close()
}

// Close closes the connections. It is for a handler that was never started.
func (n *Notify) Close() {
	if n.browsers != nil {
		n.browsers.close()
	}
	for _, s := range n.endpoints {
		s.Close()
	}
}

// Handler returns what the router needs to know about the handler.
func (n *Notify) Handler() events.Handler {
	return events.Handler{
		Name: Name, Topic: events.TopicMessages, Types: []events.Type{events.NewMessage}, Group: "notify-consumer-group", NoReplay: NoReplay,
		Handle: n.handle, HandleBatch: n.handleBatch, Gather: gather, Ready: n.ready,
	}
}

// ready returns which endpoints get nothing now. A push service that fails concerns its browsers alone.
func (n *Notify) ready() error {
	var errs []error
	for _, s := range n.endpoints {
		errs = append(errs, s.Ready())
	}
	return errors.Join(errs...)
}
