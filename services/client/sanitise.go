package client

import (
	"strings"
	"unicode"
)

// Sanitise makes text of other people safe to print on one line: nothing in it can move the cursor, start an escape sequence
// or change the direction of the text.
func Sanitise(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return '↵'
		case r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
