package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
)

// chain is the end of the chain of lines: the number and the hash of the last one. A line ends in its number and its hash,
// which is the SHA-256 in hex of the hash before and of the line up to its own hash. So a line cannot be changed, taken out,
// put in or moved without changing all hashes after it. A log from before there were hashes counts as if its lines had them:
// the first line with a hash depends on all of them. Such a chain has a hash, and no number yet.
type chain struct {
	number int64
	hash   string
}

// The text before and after a hash.
const (
	hashBegin = `,"hash":"`
	hashEnd   = `"}`
)

// hashOf returns the hash of a line that follows, of which body is what comes before the hash.
func (c chain) hashOf(body []byte) string {
	hash := sha256.New()
	var text [2 * sha256.Size]byte
	hash.Write(append(text[:0], c.hash...)) // a hash returns no errors
	hash.Write(body)
	var sum [sha256.Size]byte
	hex.Encode(text[:], hash.Sum(sum[:0]))
	return string(text[:])
}

// follow returns the chain with the line, whether or not its hash is right.
func (c chain) follow(l *line) chain {
	if l.Hash == "" {
		return chain{hash: c.hashOf(l.body)}
	}
	return chain{l.Number, l.Hash}
}

// links are lines that follow a chain, as they are to stand in the file.
type links struct {
	end    chain // with the lines
	text   bytes.Buffer
	values *json.Encoder // writes to text
}

func newLinks() *links {
	l := &links{}
	l.values = json.NewEncoder(&l.text)
	return l
}

// after begins anew after the chain.
func (l *links) after(end chain) {
	l.end = end
	l.text.Reset()
}

// add appends the value as the next line.
func (l *links) add(value any) error {
	begin := l.text.Len()
	if err := l.values.Encode(value); err != nil {
		return err
	}
	l.text.Truncate(l.text.Len() - len("}\n"))
	l.end.number++
	l.text.WriteString(`,"n":`)
	l.text.Write(strconv.AppendInt(l.text.AvailableBuffer(), l.end.number, 10))
	l.end.hash = l.end.hashOf(l.text.Bytes()[begin:])
	l.text.WriteString(hashBegin)
	l.text.WriteString(l.end.hash)
	l.text.WriteString(hashEnd + "\n")
	return nil
}

// line is a line as it is read.
type line struct {
	place
	continuation
	Number int64  `json:"n"`
	Hash   string `json:"hash"` // empty in a log from before there were hashes

	body []byte // what the hash is of
}

// parseLine reads a line, which need not end in a newline.
func parseLine(data []byte) (line, error) {
	var l line
	data = bytes.TrimSuffix(data, []byte("\n"))
	if err := json.Unmarshal(data, &l); err != nil {
		return line{}, err
	}
	l.body = data
	if body, ok := bytes.CutSuffix(data, []byte(hashBegin+l.Hash+hashEnd)); ok {
		l.body = body
	} else {
		l.Hash = "" // whatever it is, it is no hash of ours
	}
	return l, nil
}
