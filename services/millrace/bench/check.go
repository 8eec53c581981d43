package bench

import (
	"fmt"
	"slices"
)

// evidence is what was seen of a pair's messages. Each list has the order in which they were seen.
type evidence struct {
	sent     int // messages 0 to sent-1
	acked    int // how many of them were accepted
	refusals int // how many were refused; these were accepted only when repeated

	atPeer, atSender []sighting
	atOthers         [][]sighting // by listener
	stored           []sighting   // nil: the history could not be read
}

// place is where messages were seen.
type place struct {
	name string
	seen []sighting
}

func (e evidence) places() []place {
	all := []place{{inHistory, e.stored}, {"what the receiver got", e.atPeer}, {"what the sender got", e.atSender}}
	for i, seen := range e.atOthers {
		all = append(all, place{fmt.Sprintf("what listener %d got", i+1), seen})
	}
	return all
}

const inHistory = "history"

// violations returns what is wrong with the evidence. Every message must be accepted, pushed once to all its users and be in
// the history once. Everywhere messages must be in the order of seq, each with the same seq, and in the order in which they
// were sent unless some had to be repeated.
func (e evidence) violations() []string {
	var found []string
	if e.acked < e.sent {
		found = append(found, fmt.Sprintf("%d of %d messages were never answered", e.sent-e.acked, e.sent))
	}
	for _, place := range e.places() {
		if place.seen == nil && place.name == inHistory {
			found = append(found, "the history could not be read")
			continue
		}
		times := make([]int, e.sent)
		seq, index := int64(0), int32(-1)
		disordered, overtaken := 0, 0
		for _, s := range place.seen {
			if s.index < 0 || int(s.index) >= e.sent {
				found = append(found, fmt.Sprintf("%s has message %d, which was never sent", place.name, s.index))
				continue
			}
			times[s.index]++
			if s.seq <= seq {
				disordered++
			}
			if s.index <= index {
				overtaken++
			}
			seq, index = s.seq, s.index
		}
		lost, doubled := 0, 0
		for _, n := range times {
			switch {
			case n == 0:
				lost++
			case n > 1:
				doubled++
			}
		}
		if lost > 0 {
			found = append(found, fmt.Sprintf("%s lacks %d of %d messages, the first is %d", place.name, lost, e.sent, slices.Index(times, 0)))
		}
		if doubled > 0 {
			found = append(found, fmt.Sprintf("%s has %d messages twice or more", place.name, doubled))
		}
		if disordered > 0 {
			found = append(found, fmt.Sprintf("%s is not in the order of seq in %d places", place.name, disordered))
		}
		if overtaken > 0 && e.refusals == 0 {
			found = append(found, fmt.Sprintf("%s is not in the order sent in %d places", place.name, overtaken))
		}
		if len(found) == 0 && !slices.Equal(place.seen, e.stored) {
			found = append(found, fmt.Sprintf("%s is not what the history is", place.name))
		}
	}
	return found
}
