package bench

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"millrace/events"
	"millrace/services/client"
)

// The ids of requests: connect, then the sends by their index, and far above them the pages of history and the group.
const (
	connectFrame = 1
	firstSend    = 2
	historyFrame = 1 << 40
	groupFrame   = 1 << 41
)

// sighting is a message of the run as it was seen in a push or in history.
type sighting struct {
	index int32
	seq   int64
}

// wire writes and reads the frames of one pair. A message says in its content which one it is and when it was sent:
//
//	RUN PAIR INDEX NANOSECONDS ......
type wire struct {
	pair int
	size int // of the content
	// The beginnings of frames, made once.
	send    []byte // {"id":
	middle  []byte // ,"send":{"to":…,"client_msg_id":"RUN-PAIR-
	content []byte // ","content":"RUN PAIR
	run     []byte // "content":"RUN
}

const minBenchSize = 64 // room for what the content says

func newWire(run string, pair int, to client.Target, size int) *wire {
	target := fmt.Sprintf(`"to":%d`, to.To)
	if to.GroupID != 0 {
		target = fmt.Sprintf(`"group_id":%d`, to.GroupID)
	}
	return &wire{
		pair: pair, size: size,
		send:    []byte(`{"id":`),
		middle:  fmt.Appendf(nil, `,"send":{%s,"client_msg_id":"%s-%d-`, target, run, pair),
		content: fmt.Appendf(nil, `","content":"%s %d `, run, pair),
		run:     fmt.Appendf(nil, `"content":"%s `, run),
	}
}

// message appends the frame of a message.
func (w *wire) message(b []byte, index int32, at int64) []byte {
	b = append(b, w.send...)
	b = strconv.AppendInt(b, firstSend+int64(index), 10)
	b = append(b, w.middle...)
	b = strconv.AppendInt(b, int64(index), 10)
	b = append(b, w.content...)
	start := len(b) - len(w.content) + len(`","content":"`)
	b = strconv.AppendInt(b, int64(index), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, at, 10)
	b = append(b, ' ')
	for len(b)-start < w.size {
		b = append(b, '.')
	}
	return append(b, `"}}`...)
}

var errForeign = errors.New("a message of another pair")

// pushed reads a push and returns which message it is and when it was sent. ok is false if it is no message of this run. It
// looks for the members where this server puts them, and decodes the frame only if they are not there.
func (w *wire) pushed(text []byte) (s sighting, at int64, ok bool, err error) {
	if bytes.HasPrefix(text, []byte(`{"push":{"type":"new_message",`)) {
		if _, rest, found := bytes.Cut(text, []byte(`,"seq":`)); found {
			seq, rest := number(rest)
			if _, rest, found = bytes.Cut(rest, w.run); found && seq > 0 {
				return w.parse(rest, seq)
			}
		}
	}
	f, err := client.Decode(text)
	if err != nil || f.Push == nil || f.Push.Type != events.NewMessage || f.Push.Message == nil {
		return sighting{}, 0, false, err
	}
	return w.read(f.Push.Message.Content, f.Push.Seq)
}

// read reads the content of a message.
func (w *wire) read(content string, seq int64) (s sighting, at int64, ok bool, err error) {
	rest, found := bytes.CutPrefix([]byte(content), w.run[len(`"content":"`):])
	if !found {
		return sighting{}, 0, false, nil
	}
	return w.parse(rest, seq)
}

func (w *wire) parse(content []byte, seq int64) (s sighting, at int64, ok bool, err error) {
	pair, content := number(content)
	index, content := number(content)
	at, _ = number(content)
	if pair != int64(w.pair) {
		return sighting{}, 0, false, fmt.Errorf("%w: %d", errForeign, pair)
	}
	return sighting{index: int32(index), seq: seq}, at, true, nil
}

// answered reads an answer to a message and returns the message's index; it is fast for the answer sent. ok is false for any
// other frame.
func (w *wire) answered(text []byte) (index int32, ok bool) {
	rest, found := bytes.CutPrefix(text, w.send)
	if !found {
		return 0, false
	}
	id, rest := number(rest)
	return int32(id - firstSend), id >= firstSend && id < historyFrame && bytes.HasPrefix(rest, []byte(`"sent":`))
}

// number reads the number at the beginning of the text and skips it and the character after it.
func number(text []byte) (n int64, rest []byte) {
	for i, c := range text {
		if c < '0' || c > '9' {
			return n, text[i+1:]
		}
		n = n*10 + int64(c-'0')
	}
	return n, nil
}
