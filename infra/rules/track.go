package rules

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/expr-lang/expr/vm"

	"millrace/events"
	"millrace/infra/hook"
)

// flood is a rule about how many messages of one sender in one conversation may come within a time.
type flood struct {
	name      string
	when      *vm.Program // which messages count; nil: all
	source    string      // what is too much, for an operator
	byContent bool        // only messages with the same content count together
	moreThan  int
	within    int64 // seconds
	recall    string
}

// track has seen the messages of one partition. It knows them by hashes, so that it holds no more than some megabytes.
type track struct {
	set     *Set
	seed    maphash.Seed
	through int64 // the last message that it has seen
	swept   int64 // when it has dropped what lies too far back
	first   map[uint64]verdict
	// latest has by flood, for each kind of messages that count together, the last of them: at most as many as are allowed.
	latest []map[uint64][]counted
}

// verdict is what was decided on a message: which flood it belongs to, or noFlood.
type verdict struct {
	seq   int64
	flood int
}

const noFlood = -1

// counted is a message that counts: its position and its timestamp.
type counted struct{ seq, at int64 }

// kind is what counts together, or tells a message from all others.
type kind struct {
	sender             int64
	conversation, text string
}

func newTrack(set *Set) *track {
	t := &track{set: set, seed: maphash.MakeSeed(), first: make(map[uint64]verdict)}
	for range set.floods {
		t.latest = append(t.latest, make(map[uint64][]counted))
	}
	return t
}

// reaches reports whether the track can decide on the record: it has decided on it, or has seen what lies before it.
func (t *track) reaches(r *events.Record) bool {
	if events.EpochOf(t.through) != events.EpochOf(r.Seq) {
		return false
	}
	_, known := t.seen(r)
	return known || r.Seq > t.through
}

// seen returns what was decided on this very record, or nothing on one that repeats another.
func (t *track) seen(r *events.Record) (v verdict, known bool) {
	v, known = t.first[t.id(r.Message)]
	switch {
	case v.seq < r.Seq-FloodRecords || v.seq > r.Seq:
		return verdict{}, false
	case v.seq < r.Seq:
		v.flood = noFlood
	}
	return v, known
}

// reason returns the reason of a verdict, which is empty if there is none.
func (t *track) reason(v verdict) string {
	if v.flood == noFlood {
		return ""
	}
	return t.set.floods[v.flood].recall
}

func (t *track) id(m *events.Message) uint64 {
	return maphash.Comparable(t.seed, kind{conversation: m.Conversation, text: m.MessageID})
}

// observe counts the message and decides on it, unless it repeats another.
func (t *track) observe(r *events.Record) (result Result) {
	m := r.Message
	horizon := r.Seq - FloodRecords
	t.sweep(r.Seq, horizon)
	t.through = r.Seq
	if _, known := t.seen(r); known {
		return result
	}
	decided := verdict{r.Seq, noFlood}
	var env *environment
	machine := vm.VM{MemoryBudget: maxMemory}
	for i, f := range t.set.floods {
		if f.when != nil {
			if env == nil {
				env = environmentOf(subjectOf(r))
			}
			if !result.holds(&machine, f.name, f.when, env) {
				continue
			}
		}
		of := kind{sender: m.From, conversation: m.Conversation}
		if f.byContent {
			of.text = m.Content
		}
		if !t.count(i, maphash.Comparable(t.seed, of), counted{r.Seq, m.Timestamp}, horizon) {
			continue
		}
		result.Matched = append(result.Matched, f.name)
		result.Add(events.Decisions{Recall: f.recall})
		if decided.flood == noFlood {
			decided.flood = i
		}
	}
	t.first[t.id(m)] = decided
	return result
}

// count notes the message, and reports whether it is one too many: it comes within the time after the one that lies as many
// messages before it as are allowed.
func (t *track) count(flood int, of uint64, c counted, horizon int64) bool {
	f := t.set.floods[flood]
	all := t.latest[flood][of]
	tooMany := false
	if len(all) == f.moreThan {
		tooMany = all[0].seq >= horizon && all[0].at > c.at-f.within
		all = slices.Delete(all, 0, 1)
	}
	t.latest[flood][of] = append(all, c)
	return tooMany
}

// sweep drops, once in a while, what lies too far back to count.
func (t *track) sweep(seq, horizon int64) {
	if seq < t.swept+FloodRecords {
		return
	}
	t.swept = seq
	for id, v := range t.first {
		if v.seq < horizon {
			delete(t.first, id)
		}
	}
	for _, kinds := range t.latest {
		for of, all := range kinds {
			if all[len(all)-1].seq < horizon {
				delete(kinds, of)
			}
		}
	}
}

// subjectOf returns the message of a record as conditions see it: with the tags that it got when it was accepted, at the time of its
// timestamp.
func subjectOf(r *events.Record) Subject {
	return Subject{At: time.Unix(r.Message.Timestamp, 0), Draft: hook.Draft{
		Message: r.Message, UserType: r.Header(events.UserTypeHeader), Region: r.Header(events.RegionHeader),
		Tags: events.SplitNames(r.Header(events.TagsHeader)),
	}}
}

// EvaluateFloods returns what flood rules decide on the last of so many messages that are alike and are sent at once. What the
// rules before have tagged is in the subject.
func (s *Set) EvaluateFloods(subject Subject, times int) Result {
	t := newTrack(s)
	m := *subject.Message
	m.Timestamp = subject.At.Unix()
	var result Result
	for i := range int64(times) {
		r := events.Record{Event: events.Event{Message: &m}, Position: events.Position{Seq: i + 1}, Headers: events.HeaderMap{
			events.UserTypeHeader: subject.UserType, events.RegionHeader: subject.Region, events.TagsHeader: events.JoinNames(subject.Tags),
		}}
		m.MessageID = r.Position.String()
		result = t.observe(&r)
	}
	return result
}
