package connect

import (
	"cmp"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	millracev1 "millrace/proto/millrace/v1"
)

// deviceHub is the hub of one gateway in the tests of devices.
type deviceHub struct {
	*hub
	stream  *stream
	pending []*millracev1.Signal // signals to the hub that it has not got yet
}

// deviceSubscriber returns a session of user 1's phone that has not joined yet.
func deviceSubscriber(number int64, id string) *subscriber {
	conn, _ := net.Pipe()
	out := &outbox{
		conn: conn, maxFrames: 100, maxBytes: 1 << 20, spawn: func(func()) {}, writers: &writers{}, done: make(chan struct{}),
	}
	g := &Gateway{metrics: newMetrics(nil, nil)}
	s := &session{gw: g, out: out, log: slog.New(slog.DiscardHandler), cancel: func() {}}
	return &subscriber{session: s, id: id, number: number, user: 1, device: "phone"}
}

func newDeviceHub(t *testing.T) *deviceHub {
	h := &deviceHub{hub: newHub(t.Context(), Config{}.withDefaults(), nil, newMetrics(nil, nil), slog.New(slog.DiscardHandler))}
	h.stream = h.attach("node")
	return h
}

// send returns and removes the signals that the hub has for its push node.
func (h *deviceHub) send() (signals []*millracev1.Signal) {
	for r := h.take(h.stream); r != nil; r = h.take(h.stream) {
		if r.GetSignal() != nil {
			signals = append(signals, r.GetSignal())
		}
	}
	return signals
}

func closed(sub *subscriber) bool { return sub.session.closing.Load() }

// Sessions of one device connect to three gateways. Their steps and the signals between the gateways happen in any order, and
// some of the numbers are equal. One session stays: that with the highest number and id.
func TestOfSessionsOfADeviceThatConnectAtOnceExactlyOneStays(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		hubs := []*deviceHub{newDeviceHub(t), newDeviceHub(t), newDeviceHub(t)}
		relay := func() {
			for _, from := range hubs {
				for _, signal := range from.send() {
					for _, to := range hubs {
						to.pending = append(to.pending, signal)
					}
				}
			}
		}
		hear := func(h *deviceHub) {
			h.relayed(h.pending[0])
			h.pending = h.pending[1:]
			relay()
		}
		type connecting struct {
			at    *deviceHub
			sub   *subscriber
			steps int
		}
		var all []*connecting
		for i := range 2 + rng.IntN(4) {
			sub := deviceSubscriber(rng.Int64N(3), fmt.Sprintf("%d-%d", rng.IntN(10), i))
			all = append(all, &connecting{at: hubs[rng.IntN(len(hubs))], sub: sub})
		}
		unfinished := slices.Clone(all)
		for len(unfinished) > 0 || slices.ContainsFunc(hubs, func(h *deviceHub) bool { return len(h.pending) > 0 }) {
			if h := hubs[rng.IntN(len(hubs))]; len(h.pending) > 0 && rng.IntN(2) == 0 {
				hear(h)
			}
			if len(unfinished) == 0 {
				continue
			}
			i := rng.IntN(len(unfinished))
			c := unfinished[i]
			switch c.steps++; c.steps {
			case 1:
				c.at.join(c.sub, nil)
			case 2:
				c.at.establish(c.sub)
				unfinished = slices.Delete(unfinished, i, i+1)
			}
			relay()
		}
		var stay []string
		for _, c := range all {
			if !closed(c.sub) {
				stay = append(stay, c.sub.id)
			}
		}
		last := slices.MaxFunc(all, func(a, b *connecting) int {
			return cmp.Or(cmp.Compare(a.sub.number, b.sub.number), cmp.Compare(a.sub.id, b.sub.id))
		})
		require.Equal(t, []string{last.sub.id}, stay, "seed %d", seed)
	}
}

// Not the clocks of gateways order the sessions but the push nodes' clock.
func TestSessionsAreNumberedByTheClockOfThePushNodes(t *testing.T) {
	first, second := newDeviceHub(t), newDeviceHub(t)
	require.Zero(t, first.number(), "the clock is not known yet: any other session is newer")
	const hour = int64(time.Hour / time.Microsecond)
	now := time.Now().UnixMicro() + hour
	first.acknowledged(first.stream, &millracev1.InterestAck{Number: 1, Now: now})
	before := first.number()
	require.GreaterOrEqual(t, before, now)
	second.acknowledged(second.stream, &millracev1.InterestAck{Number: 1, Now: now + 10*hour})
	require.Greater(t, second.number(), before)
	second.acknowledged(second.stream, &millracev1.InterestAck{Number: 1, Now: now}) // it was on its way for long
	require.GreaterOrEqual(t, second.number(), now+10*hour)
}

// A half-dead session may have the higher number if push nodes with different clocks took turns. It yields all the same once
// it is older than any connect can take.
func TestASettledSessionYieldsWhateverItsNumber(t *testing.T) {
	h := newDeviceHub(t)
	old := deviceSubscriber(100, "old")
	h.join(old, nil)
	require.True(t, h.establish(old))
	h.send()
	other := &millracev1.SessionReplaced{User: 1, Device: "phone", Session: "new", Number: 50}
	signal := &millracev1.Signal{Channel: "u:1", Kind: &millracev1.Signal_Replaced{Replaced: other}}
	h.relayed(signal)
	require.False(t, closed(old))
	require.Len(t, h.send(), 1, "the other learns of the session with the higher number")
	old.established = old.established.Add(-settledAfter)
	h.relayed(signal)
	require.True(t, closed(old))
}

func TestALostAnnouncementIsMadeAgain(t *testing.T) {
	h := newDeviceHub(t)
	sub := deviceSubscriber(1, "a")
	h.join(sub, nil)
	require.True(t, h.establish(sub))
	require.Len(t, h.send(), 1)
	h.announceLost()
	require.Empty(t, h.send(), "not yet")
	sub.established = sub.established.Add(-announceAgain)
	h.announceLost()
	require.Len(t, h.send(), 1)
	h.announceLost()
	require.Empty(t, h.send(), "twice is enough")
}

func TestASessionThatIsBeingClosedEndsNoOther(t *testing.T) {
	h := newDeviceHub(t)
	old, young := deviceSubscriber(1, "old"), deviceSubscriber(2, "young")
	h.join(old, nil)
	require.True(t, h.establish(old))
	h.join(young, nil)
	young.session.close(1001, goingAway)
	require.False(t, h.establish(young))
	require.False(t, closed(old))
}
